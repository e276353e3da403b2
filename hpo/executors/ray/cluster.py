"""Connects to a Ray cluster, or starts a Ray on this machine that ends with the study.

https://docs.ray.io/en/latest/ray-core/starting-ray.html
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hpo.errors import ConfigError
from hpo.executors.ray import reaper

ADDRESS = "RAY_ADDRESS"
CONNECT_SECONDS = 5.0
# Ray itself tries for two minutes to find a missing cluster, and then ends the process.
PROBE_SECONDS = 25.0
_PROBE = "import ray, sys; ray.init(address=sys.argv[1], logging_level=50, log_to_driver=False)"
_OWN_TOKEN = secrets.token_hex(32)


def import_ray(address: str | None = None) -> Any:
    """Import Ray, which reads its access token from the environment then.

    Args:
        address: of a cluster; None for ``RAY_ADDRESS`` or a Ray of our own.
    """
    os.environ.update(access(address))
    import ray

    return ray


def access(address: str | None = None) -> dict[str, str]:
    """Return the variables that restrict access to a Ray of our own; empty where another one or the user decides.

    Ray listens on every interface and runs what a client sends; a token keeps other users out.
    https://docs.ray.io/en/latest/ray-security/token-auth.html
    """
    is_own = address is None and not os.environ.get(ADDRESS)
    if is_own and "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _OWN_TOKEN}
    return {}


class Cluster:
    """This process's connection to Ray.

    Args:
        address: ``auto`` or ``HOST:PORT``; None for the value of ``RAY_ADDRESS`` or, without one, a Ray of our own.
        runtime_env: what the user's code needs on other machines, as Ray takes it.

    Attributes:
        is_own: whether it is a Ray of our own, to which nobody adds a node.
    """

    def __init__(self, address: str | None = None, runtime_env: Mapping[str, Any] | None = None) -> None:
        self._ray = import_ray(address)
        self.address = address or os.environ.get(ADDRESS) or None
        self._key = "executor.address" if address else ADDRESS
        self.runtime_env = dict(runtime_env) if runtime_env else None
        self.is_own = self._is_connected = False
        self._reaper: subprocess.Popen[bytes] | None = None

    def connect(self, n_cpus: int) -> None:
        """Connect, unless this process is connected; a Ray of our own gets ``n_cpus`` cores.

        Raises:
            ConfigError: when nothing answers at the address, or it refuses the connection.
        """
        if self._ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations within Ray and its dependencies
            if self.address is not None:
                check_answers(self.address, self._key)
            try:
                if self.address is None:
                    self._start_own(n_cpus, quiet)
                else:
                    self._ray.init(address=self.address, runtime_env=self.runtime_env, **quiet)
            except Exception as error:  # Ray has no more specific class for a bad runtime_env
                key, value = (
                    ("executor.runtime_env", self.runtime_env) if self.runtime_env else (self._key, self.address)
                )
                expected = f"a value that Ray can start with ({type(error).__name__}: {error})"
                fix = "see https://docs.ray.io/en/latest/ray-core/handling-dependencies.html"
                raise ConfigError(key, value, expected, fix) from error
        self._is_connected = True

    def _start_own(self, n_cpus: int, quiet: Mapping[str, Any]) -> None:
        mark = uuid.uuid4().hex
        os.environ[reaper.VARIABLE] = mark
        try:
            # In a session of its own, so that Ctrl-C does not reach it.
            command = [sys.executable, "-m", reaper.__name__, mark]
            unmarked = {name: value for name, value in os.environ.items() if name != reaper.VARIABLE}
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._reaper = subprocess.Popen(command, env=unmarked, start_new_session=True, **pipes)
            # "local", since Ray would otherwise join one that runs on this machine.
            self._ray.init("local", num_cpus=n_cpus, include_dashboard=False, runtime_env=self.runtime_env, **quiet)
        finally:
            del os.environ[reaper.VARIABLE]
        self.is_own = True
        assert self._reaper.stdin is not None and self._reaper.stdout is not None
        self._reaper.stdin.write(b"started\n")
        self._reaper.stdin.flush()
        self._reaper.stdout.readline()
        self._reaper.stdout.close()

    def close(self) -> None:
        """Disconnect, and end a Ray of our own; safe to call twice."""
        if self._is_connected:
            self._is_connected = False
            self._ray.shutdown()
        if self._reaper is not None:
            reaper, self._reaper, self.is_own = self._reaper, None, False
            assert reaper.stdin is not None
            reaper.stdin.close()
            reaper.wait()

    @property
    def takes_runtime_env(self) -> bool:
        """Whether the ``runtime_env`` applies to everything that runs over this connection."""
        return self._is_connected

    def nodes(self) -> list[Mapping[str, Any]]:
        """Return the nodes that are alive, as Ray describes them."""
        return [node for node in self._ray.nodes() if node["Alive"]]


@contextmanager
def connected(n_cpus: int) -> Iterator[Any]:
    """Connect to Ray for a block; keep the connection that this process already has."""
    cluster = Cluster()
    try:
        cluster.connect(n_cpus)
        yield cluster
    finally:
        cluster.close()


def check_answers(address: str, key: str) -> None:
    """Check in another process that a cluster answers at ``address``; Ray ends a process that cannot connect.

    Args:
        key: the setting that the address comes from, for messages.

    Raises:
        ConfigError: when no cluster answers, or it refuses the connection.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in address:
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise _refused(key, address, f"a Ray cluster that answers ({error})") from error
    environment = os.environ | {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
    command = [sys.executable, "-c", _PROBE, address]
    probe = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    assert probe.stderr is not None
    timer = threading.Timer(PROBE_SECONDS, probe.kill)
    timer.start()
    last = ""
    try:
        for line in probe.stderr:
            last = line.strip() or last
            if "InvalidAuthToken" in line or "AuthenticationError" in line:
                expected = "a Ray cluster that accepts this process's token"
                fix = "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE in front of the command, FILE as on the head node"
                if os.environ.get("RAY_AUTH_TOKEN") == _OWN_TOKEN:
                    fix = "run this study in a separate command: an earlier study of this one has started its own Ray"
                raise ConfigError(key, address, expected, fix)
        if probe.wait():
            raise _refused(key, address, f"a Ray cluster that answers ({last or f'exit code {probe.returncode}'})")
    finally:
        timer.cancel()
        probe.kill()
        probe.wait()
        probe.stderr.close()


def _refused(key: str, address: str, expected: str) -> ConfigError:
    fix = "`ray start --head` prints its address; executor.address=null starts a Ray on this machine"
    return ConfigError(key, address, expected, fix)

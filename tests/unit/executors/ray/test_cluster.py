"""Clusters that do not answer or refuse the connection are reported within seconds."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest
from waiting import wait_until

from hpo.errors import ConfigError
from hpo.executors.ray.cluster import ADDRESS, access, check_answers, import_ray
from hpo.executors.ray.executor import RayExecutor


def refusal(address: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check_answers(address, "executor.address")
    assert (caught.value.key, caught.value.value) == ("executor.address", address)
    return caught.value


def test_closed_port_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    assert "Connection refused" in refusal(address).expected
    assert time.monotonic() - began < 2


def test_refusal_of_an_address_from_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = import_ray()
    monkeypatch.setenv(ADDRESS, "127.0.0.1:1")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # whatever other tests have started
    executor = RayExecutor()
    with pytest.raises(ConfigError) as caught:
        executor.prepare()
    assert caught.value.key == ADDRESS


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "no-such-host.invalid:6379"])
def test_invalid_address_is_refused(address: str) -> None:
    refusal(address)


def test_wrong_token_is_named(one_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    check_answers(address, "executor.address")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    began = time.monotonic()
    refused = refusal(address)
    assert "token" in refused.expected
    assert "RAY_AUTH_TOKEN_PATH" in refused.fix
    assert time.monotonic() - began < 15


@pytest.mark.slow
def test_other_server_is_refused() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        refusal(f"127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.mark.slow
def test_invalid_runtime_env_is_refused() -> None:
    script = (
        "from hpo.errors import ConfigError\n"
        "from hpo.executors.ray.cluster import Cluster\n"
        "cluster = Cluster(runtime_env={'working_dir': '/no/such/folder'})\n"
        "try:\n    cluster.connect(1)\n"
        "except ConfigError as error:\n    print(error)\n"
        "finally:\n    cluster.close()\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout.startswith("executor.runtime_env = {'working_dir': '/no/such/folder'}"), done.stderr
    assert "/no/such/folder" in done.stdout.partition("expected:")[2]


def test_only_our_own_ray_gets_our_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    for name in (ADDRESS, "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert len(access()["RAY_AUTH_TOKEN"]) == 64
    assert "RAY_AUTH_TOKEN" not in access("auto")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "RAY_AUTH_TOKEN" not in access()


DRIVER = """
import os, signal, sys
import psutil
from hpo.executors.ray.cluster import Cluster

if __name__ == "__main__":
    cluster = Cluster()
    cluster.connect(1)
    print(*[process.pid for process in psutil.Process().children(recursive=True)], flush=True)
    if sys.argv[1] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    cluster.close()
"""


@pytest.mark.parametrize("end", ["close", pytest.param("kill", marks=pytest.mark.slow)])
def test_our_own_ray_leaves_no_process(end: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run([sys.executable, "-c", DRIVER, end], stdout=subprocess.PIPE, text=True, env=environment)
    below = [int(pid) for pid in done.stdout.split()]
    assert len(below) > 3
    wait_until(lambda: not any(map(_is_running, below)), timeout=10)


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

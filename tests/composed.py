"""Runs the services of ``docker-compose.yml`` as local processes, without Docker.

The command, environment, volumes, health check and dependencies of a service are read from the file, so that tests find
mistakes in it. Only what containers isolate is translated: names of services become addresses of this machine, ports
become free ports, and mounted folders become temporary ones. The installed PostgreSQL server replaces PostgreSQL's
image. The keys are specified at https://github.com/compose-spec/compose-spec.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "docker-compose.yml"
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/lib/postgresql/bin"))
RAY_STARTED = "Ray runtime started"
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^{}]*))?\}|(?P<wrong>.?))")
# Variables of this machine that are passed on; a container would have them too.
_FROM_OUTSIDE = re.compile(r"OPENBLAS_\w+|LANG|TZ|LD_LIBRARY_PATH")


class ComposeError(Exception):
    """The file or its variables are invalid."""


def interpolate(node: Any, variables: Mapping[str, str]) -> Any:
    """Replace ``$$``, ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` in a part of the file.

    Raises:
        ComposeError: if a required variable is missing or empty, and for any other ``$``.
    """

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["name"] is None:
            raise ComposeError(f"{match.string}: $ without a variable")
        found = variables.get(match["name"], "")
        if not found and match["kind"] == "?":
            raise ComposeError(f"required variable {match['name']} is missing a value: {match['rest']}")
        if not found and match["kind"] is None:
            raise ComposeError(f"{match['name']} has no value and no default")
        return found or match["rest"]

    if isinstance(node, str):
        return _VARIABLE.sub(value, node)
    if isinstance(node, Mapping):
        return {key: interpolate(inner, variables) for key, inner in node.items()}
    return [interpolate(inner, variables) for inner in node] if isinstance(node, list) else node


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Container:
    """A translated service and its processes, which an environment variable marks."""

    service: str
    command: list[str]
    environment: dict[str, str]
    folder: Path
    log: Path
    health: list[str] | None = None
    as_user: tuple[str, ...] = ()
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    main: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start or restart the service."""
        with self.log.open("ab") as log:
            self.main = subprocess.Popen(
                [*self.as_user, *self.command],
                cwd=self.folder,
                env=self.environment | {"COMPOSED": self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.main

    @property
    def is_healthy(self) -> bool:
        """Whether the health check of the service succeeds."""
        assert self.health is not None, f"{self.service} has no health check"
        with self.log.with_suffix(".health").open("ab") as log:
            options: dict[str, Any] = {"cwd": self.folder, "env": self.environment, "stdout": log, "stderr": log}
            return subprocess.run(self.health, timeout=60, **options).returncode == 0

    def wait_healthy(self, seconds: float = 180) -> None:
        until = time.monotonic() + seconds
        while not self.is_healthy:
            if (self.main and self.main.poll() is not None) or time.monotonic() > until:
                raise ComposeError(f"{self.service} is not healthy:\n{self.text[-4000:]}")
            time.sleep(0.5)

    @property
    def text(self) -> str:
        """Output of the service so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def processes(self) -> list[psutil.Process]:
        """Running processes that the service has started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("COMPOSED") == self.mark:
                    found.append(process)
        return found

    def kill(self) -> None:
        """Kill all processes of the service, as when a container dies."""
        for _ in range(5):
            for process in (left := self.processes):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=10)
            if not self.processes:
                break
        if self.main:
            self.main.wait()

    def wait(self, seconds: float = 600) -> int:
        """Wait until the service ends, kill its remaining processes, and return its exit code."""
        assert self.main is not None
        try:
            return self.main.wait(seconds)
        finally:
            self.kill()

    def stop(self) -> None:
        """Act as ``docker compose stop``: send SIGTERM to the first process, then kill the rest."""
        if self.main and self.main.poll() is None:
            self.main.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.main.wait(30)
        self.kill()


class Composition:
    """The services of ``docker-compose.yml`` on this machine.

    Args:
        variables: the variables of ``.env``.
        scale: number of containers by service, as for ``--scale``; 1 by default.
    """

    def __init__(self, variables: Mapping[str, str], scale: Mapping[str, int] | None = None, path: Path = COMPOSE):
        # Not in pytest's folder: PostgreSQL's user must have access, and paths of Ray's sockets must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="composed-"))
        self.folder.chmod(0o711)
        self.variables = dict(variables)
        self.config = interpolate(yaml.safe_load(path.read_text(encoding="utf-8")), variables)
        self.services: dict[str, dict[str, Any]] = self.config["services"]
        self._scale = scale or {}
        self.ports = {port: free_port() for service in self.services.values() for port in _ports(service)}
        self._mounts: dict[str, Path] = {}
        self.containers: dict[str, list[Container]] = {}

    def __enter__(self) -> Composition:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for container in [each for group in self.containers.values() for each in group]:
                container.kill()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def up(self, *names: str) -> None:
        """Act as ``docker compose up --wait`` for the named services, or all without a profile, and dependencies."""
        for name in names or [name for name, service in self.services.items() if not service.get("profiles")]:
            if name in self.containers:
                for container in self.containers[name]:
                    if container.main and container.main.poll() is not None:
                        container.start()
                        container.wait_healthy()
                continue
            self.up_dependencies(name)
            self.containers[name] = [self.container(name, number) for number in range(self._scale.get(name, 1))]
            for container in self.containers[name]:
                self._start(container)

    def restart(self, name: str) -> None:
        """Kill and restart all containers of a service."""
        for container in self.containers[name]:
            container.kill()
        for container in self.containers[name]:
            self._start(container)

    def _start(self, container: Container) -> None:
        before = container.text.count(RAY_STARTED)
        container.start()
        if container.service.startswith("ray"):
            # Ray nodes share one folder here; nodes that start at the same time would use the same file names.
            until(lambda: container.text.count(RAY_STARTED) > before, 120, f"{container.service} started")
        container.wait_healthy()

    def up_dependencies(self, name: str) -> None:
        for needed, how in self.services[name].get("depends_on", {}).items():
            if how["condition"] != "service_healthy":
                raise ComposeError(f"{name} does not wait for {needed} to be healthy")
            self.up(needed)

    def run(self, name: str, *command: str, entrypoint: Sequence[str] | None = None, **variables: str) -> Container:
        """Act as ``docker compose run``: start a new container, with another command if one is given.

        Args:
            entrypoint: as for ``--no-deps --entrypoint``; dependencies of the service are not started.
            variables: environment variables, as for ``--env``.
        """
        if entrypoint is None:
            self.up_dependencies(name)
        runs = self.containers.setdefault(f"{name} run", [])
        runs.append(self.container(name, len(runs), command, entrypoint))
        runs[-1].environment |= variables
        runs[-1].start()
        return runs[-1]

    def container(
        self, name: str, number: int = 0, command: Sequence[str] = (), entrypoint: Sequence[str] | None = None
    ) -> Container:
        """Translate a service to this machine."""
        service = self.services[name]
        folder = self.folder / f"{name}-{number}"
        folder.mkdir(exist_ok=True)
        environment = {key: self._environment(key, value) for key, value in service.get("environment", {}).items()}
        environment = {key: value for key, value in environment.items() if value is not None}
        environment |= {key: value for key, value in os.environ.items() if _FROM_OUTSIDE.fullmatch(key)}
        log = self.folder / f"{folder.name}.log"
        health = service.get("healthcheck", {}).get("test")
        if name == "postgres":
            return self._postgres(service, environment, log)
        here = {"HOME": str(folder), "PYTHONPATH": str(ROOT), "COLUMNS": "200", "RAY_TMPDIR": str(self.folder)}
        here["PATH"] = f"{Path(sys.executable).parent}:{POSTGRES}:/usr/bin:/bin"
        before = _words(service.get("entrypoint")) if entrypoint is None else entrypoint
        words = [*before, *(command or _words(service["command"]))]
        mounts = {target: self._mount(source) for source, target in _mounts(service)}
        mounts |= {target: folder / target.strip("/").replace("/", "-") for target in service.get("tmpfs", ())}
        for made in mounts.values():
            if not made.exists():
                made.mkdir()
        translated = [self._here(word, mounts) for word in words]
        checked = health and [self._here(word, mounts) for word in _check(health)]
        workplace = mounts.get(service.get("working_dir", ""), folder)
        environment = {key: self._here(value, mounts) for key, value in environment.items()} | here
        hosts = {key: self.address(value) for key, value in environment.items() if key.endswith("HOST")}
        environment |= {key: address for key, address in hosts.items() if environment[key] in self.services}
        return Container(name, translated, environment, workplace, log, checked)

    def _environment(self, key: str, value: Any) -> str | None:
        if value is not None and not isinstance(value, str):
            raise ComposeError(f"{key} is {value!r} in YAML, not a string")
        return self.variables.get(key) if value is None else value

    def volume(self, name: str) -> Path:
        """Return the folder that replaces a named volume."""
        return self._mounts[name]

    def _mount(self, source: str) -> Path:
        if source.startswith("."):
            if not (ROOT / source).exists():
                raise ComposeError(f"{source} is mounted but does not exist")
            return ROOT / source
        if source not in self.config["volumes"]:
            raise ComposeError(f"the volume {source} is not declared")
        return self._mounts.setdefault(source, self.folder / f"volume-{source}")

    def _here(self, text: str, mounts: Mapping[str, Path]) -> str:
        for target, made in mounts.items():
            text = re.sub(rf"(?<![\w/.]){re.escape(target)}(?![\w.-])", str(made), text)
        for name in self.services:
            # Only where the name is an address with a port, not the name of a program or a pattern.
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?=:\d)", self.address(name), text)
        for port, free in self.ports.items():
            text = re.sub(rf"(?:^|(?<=[:=])){port}(?!\w)", str(free), text)
        return text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 replaced, not listened on

    def address(self, name: str) -> str:
        """Return the address of a service: that of the machine for Ray nodes, else loopback."""
        if not name.startswith("ray"):
            return "127.0.0.1"
        import ray

        return str(ray.util.get_node_ip_address())

    def _postgres(self, service: Mapping[str, Any], environment: dict[str, str], log: Path) -> Container:
        """Set up the installed server as PostgreSQL's image would."""
        ((source, target),) = _mounts(service)
        if target != "/var/lib/postgresql/data":
            raise ComposeError("the image keeps its data in /var/lib/postgresql/data")
        data, port = self._mount(source), str(self.ports["5432"])
        user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups") if os.geteuid() == 0 else ()
        plain = {
            "PATH": f"{POSTGRES}:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "PGPASSWORD": environment["POSTGRES_PASSWORD"],
        }
        if not data.exists():
            data.mkdir()
            secret = self.folder / "postgres-password"
            secret.write_text(environment["POSTGRES_PASSWORD"])
            if user:
                found = pwd.getpwnam("postgres")
                for path in (data, secret):
                    os.chown(path, found.pw_uid, found.pw_gid)
            make = ["initdb", "--pgdata", str(data), "--username", environment["POSTGRES_USER"]]
            make += ["--pwfile", str(secret), "--auth=scram-sha-256", "--no-sync"]
            subprocess.run([*user, *make], check=True, env=plain, stdout=subprocess.DEVNULL, cwd="/")
            secret.unlink()
        # Start once to create the database.
        command = ["postgres", "-D", str(data), "-c", "listen_addresses=localhost", "-p", port]
        command += ["-c", f"unix_socket_directories={data}"]
        health = [self._here(word, {}) for word in _check(service["healthcheck"]["test"])]
        made = Container("postgres", command, plain, Path("/"), log, health, user)
        if not (self.folder / "database").exists():
            made.start()
            made.wait_healthy()
            create = ["createdb", "-h", "127.0.0.1", "-p", port, "-U", environment["POSTGRES_USER"]]
            subprocess.run([*create, environment["POSTGRES_DB"]], check=True, env=plain)
            (self.folder / "database").touch()
            made.stop()
        return made


def _ports(service: Mapping[str, Any]) -> list[str]:
    """Return the ports that a service exposes, or publishes on the loopback interface."""
    published = service.get("ports", ())
    if any(not port.startswith("127.0.0.1:") for port in published):
        raise ComposeError(f"{published}: published on all interfaces")
    return [*service.get("expose", ()), *(port.rpartition(":")[2] for port in published)]


def _mounts(service: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(parts[0], parts[1]) for parts in (text.split(":") for text in service.get("volumes", ()))]


def _words(command: str | list[str] | None) -> list[str]:
    return shlex.split(command) if isinstance(command, str) else list(command or ())


def _check(test: list[str]) -> list[str]:
    match test:
        case ["CMD", *words]:
            return words
        case ["CMD-SHELL", text]:
            return ["sh", "-c", text]
    raise ComposeError(f"{test}: neither CMD nor CMD-SHELL")


def until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: if it does not hold within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"after {seconds:g} s: not {what}"
        time.sleep(0.2)

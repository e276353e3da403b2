"""Versions of installed packages."""

from importlib.metadata import version
from pathlib import Path

import pytest

from hpo.core.packages import versions_of


@pytest.mark.parametrize(
    ("installed", "recorded"),
    [("2.1", "2.1"), ("2.1+cpu", "2.1"), ("2.1+cu124", "2.1"), ("2.1+rocm6.2", "2.1"), ("2.1+team.3", "2.1+team.3")],
)
def test_builds_for_other_hardware_are_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str, recorded: str
) -> None:
    info = tmp_path / "package_of_mine.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: package_of_mine\nVersion: {installed}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert versions_of(["package_of_mine", "not_installed"]) == {"package_of_mine": recorded}


def test_package_is_found_by_its_import_name() -> None:
    assert versions_of(["sklearn", "yaml"]) == {"scikit-learn": version("scikit-learn"), "yaml": version("PyYAML")}


def test_namespace_package_has_the_versions_of_all_its_distributions() -> None:
    names = {"opentelemetry-api", "opentelemetry-sdk", "opentelemetry-proto"}
    found = versions_of(["opentelemetry"])
    assert {name: found[name] for name in names} == {name: version(name) for name in names}
    assert "opentelemetry" not in found

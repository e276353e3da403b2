"""Versions of installed packages."""

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

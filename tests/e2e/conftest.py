"""Fixtures: a real browser, and a folder for screenshots."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1440,1080"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)
# Writes the screenshots of the README: HPO_SCREENSHOTS=$PWD/docs/images pytest -m slow tests/e2e
PICTURES = os.environ.get("HPO_SCREENSHOTS")


@pytest.fixture
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the extra ui-test")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture
def pictures(workdir: Path) -> Path:
    """The folder for screenshots."""
    folder = Path(PICTURES) if PICTURES and Path(PICTURES).is_absolute() else workdir / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    return folder

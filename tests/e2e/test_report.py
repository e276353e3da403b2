"""The report of a comparison in a real browser without network: all plots, no errors, wide and narrow windows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PLOTS = {
    *("differences", "scores", "curve-trials", "curve-epochs", "curve-seconds", "over-tuning", "importances"),
    *("parallel", "stopping", "savings", "fits", "cost"),
}
STUDIES = ("model=random_forest", "dataset=digits", "max_epochs=12", "early_stopping.patience=2", "limits.n_trials=10")
# Returns every drawn plot with the widths of its container and of its SVG element.
BOXES = """
return [...document.querySelectorAll('.js-plotly-plot')]
  .filter(plot => plot.querySelector('svg.main-svg'))
  .map(plot => [plot.id, plot.clientWidth, plot.querySelector('svg.main-svg').clientWidth])
"""


@pytest.mark.timeout(1800)
def test_report_opens_without_network(hpo: Callable[..., int], workdir: Path, browser: Any, pictures: Path) -> None:
    assert hpo("compare", "strategies=[grid,random,optuna]", "seeds=5", "name=which", "executor=inline", *STUDIES) == 0
    page = workdir / "hpo_runs" / "comparisons" / "which" / "grid-optuna-random" / "report.html"
    browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    for width in (1280, 400):
        resize(browser, width, 900)
        browser.get(page.as_uri())
        time.sleep(3.0)
        boxes = browser.execute_script(BOXES)
        assert {name.removeprefix("plot-") for name, _, _ in boxes} == PLOTS
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        # The page does not scroll horizontally, and every plot fills the width of its card.
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert all(abs(outer - inner) <= 1 and outer > 280 for _, outer, inner in boxes), boxes
        assert browser.find_element("id", "verdict").is_displayed()
        resize(browser, width, browser.execute_script("return document.documentElement.scrollHeight"))
        time.sleep(1.0)
        browser.save_screenshot(str(pictures / f"compare-report-{width}.png"))
    resize(browser, 1280, 1120)
    browser.get(page.as_uri())
    time.sleep(3.0)
    browser.save_screenshot(str(pictures / "compare-report.png"))


def resize(browser: Any, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

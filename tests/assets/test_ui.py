"""The UI in a real headless browser: the graph, and an asset's page with its pictures."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets.stage import Project
from tests.assets.conftest import ROOT

pytestmark = pytest.mark.slow
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --window-size=1600,1400 "
    "--disable-background-networking --disable-component-update --disable-sync"
)
WAIT = 60  # seconds for the server to answer or a page to show something


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    chrome, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chrome and driver):
        pytest.skip("no chromium and chromedriver on this machine: the UI is not looked at")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chrome
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def ui(splits: Project) -> Iterator[str]:
    """Dagster's web server over the shared run, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("dagster-webserver"), "-m", "assets.definitions"),
            *("-d", ROOT, "-h", "127.0.0.1", "-p", str(port)),
        ],
        cwd=splits.root,
        env=os.environ | {"DAGSTER_HOME": str(splits.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(WAIT * 2):
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def shown(browser: object, text: str) -> object:
    """The element that shows `text`, once the page has it."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support import expected_conditions
    from selenium.webdriver.support.ui import WebDriverWait

    place = (By.XPATH, f"//*[contains(text(), '{text}')]")
    return WebDriverWait(browser, WAIT).until(expected_conditions.visibility_of_element_located(place))


def test_the_graph_shows_every_group(browser, ui: str):
    browser.get(f"{ui}/asset-groups")
    for group in ("raw", "traces", "benchmarks", "curation", "policies", "measurements"):
        assert shown(browser, group)


def test_an_assets_page_shows_counts_reasons_and_pictures(browser, ui: str, tmp_path: Path):
    browser.get(f"{ui}/assets/deduplicated_trajectories?view=overview")
    for text in ("Near-copies of evaluation media", "accepted", "kept examples"):
        assert shown(browser, text)
    # The stage's own figures come first on the page.
    link = "(//*[text()='kept examples']/following::a[contains(text(), 'Show Markdown')])[1]"
    browser.find_element("xpath", link).click()
    deadline = time.monotonic() + WAIT
    sizes: list[int] = []
    while not sizes and time.monotonic() < deadline:
        sizes = browser.execute_script(
            "return [...document.querySelectorAll('img[src^=\"data:image/webp\"]')].map(i => i.naturalWidth)"
        )
        time.sleep(0.5)
    assert len(sizes) == 5 and min(sizes) > 50

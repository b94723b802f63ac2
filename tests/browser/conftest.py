"""A headless Chromium with the explorer's page open."""

import pytest
from selenium import webdriver

from sideways.explore.page import explore

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1440,1000"
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Debian's Chromium and its driver, with an empty profile."""
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """The address of the page that `sideways explore` has written."""
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    explore(path, open_browser=False)
    return path.as_uri()


@pytest.fixture
def page(chromium, address):
    """The page, freshly opened. A test that leaves an error in the console fails."""
    chromium.get(address)
    yield chromium
    assert chromium.get_log("browser") == []

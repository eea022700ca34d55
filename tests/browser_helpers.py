"""A headless Chromium for tests of the page, where Debian's chromium and chromium-driver (or others) are installed."""

import importlib.util
import shutil
from contextlib import contextmanager

import pytest

from autodistil.report.picture import find_chrome

_FLAGS = (
    "headless=new no-sandbox disable-gpu disable-dev-shm-usage disable-quic no-first-run disable-sync "
    "disable-background-networking disable-component-update window-size=1200,1000"
)


def missing():
    """What is missing to run a browser, None where all is there."""
    if find_chrome() is None:
        return "no Chrome or Chromium is installed (or set BROWSER_PATH): apt-get install chromium"
    if shutil.which("chromedriver") is None:
        return "no chromedriver is on the path: apt-get install chromium-driver"
    return None if importlib.util.find_spec("selenium") else "selenium is not installed: pip install selenium"


needs_browser = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@contextmanager
def browser():
    """A Selenium driver that logs the console."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(find_chrome())
    for flag in _FLAGS.split():
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def opened(driver, path):
    """The driver with a page open and drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(path.as_uri())
    WebDriverWait(driver, 60).until(lambda it: it.execute_script("return document.documentElement.dataset.drawn"))
    settled(driver)
    return driver


def settled(driver):
    """Wait until the page has rendered what was asked of it: two frames."""
    driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )

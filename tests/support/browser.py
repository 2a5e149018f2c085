"""A real browser, that notes what it asks for and what it complains about."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from .marks import assert_may_start

#: Screenshots are put into the directory that this variable names.
SCREENSHOTS = "SIGNALBUS_SCREENSHOTS"

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: What is wrong with a page for those who do not see it, or see it badly; an empty list when nothing is.
AUDIT = (Path(__file__).parent / "audit.js").read_text()


class Browser:
    """A browser with one window."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def leave(self) -> None:
        """Show no page, and forget what was said of the last one: its server may stop while a script of it asks."""
        self.driver.get("about:blank")
        self.complaints()

    def text(self, selector: str = "body") -> str:
        """The text that is shown in an element; empty while there is none, as between two pages."""
        try:
            return str(self.driver.find_element(By.CSS_SELECTOR, selector).text)
        except (NoSuchElementException, StaleElementReferenceException):
            return ""

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def click(self, label: str) -> None:
        """Follow the link, or press the button, of this accessible name."""
        for element in self.all("a, button"):
            if element.accessible_name == label:
                element.click()
                return
        raise AssertionError(f"there is no {label!r} among {[e.accessible_name for e in self.all('a, button')]}")

    def type(self, selector: str, text: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def resize(self, width: int, height: int) -> None:
        """Show as much as a screen of this size; below 500 a telephone's."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark`` pages, and nothing that moves: colours on their way are neither."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def audit(self) -> list[str]:
        return list(self.run(AUDIT))

    def complaints(self) -> list[str]:
        """What its console says since the last time: errors, and breaches of the content security policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked_for(self) -> list[str]:
        """The URLs that were asked for since the last time."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def picture(self, name: str, width: int, least_height: int = 400) -> None:
        """Save what the whole page looks like, if somebody wants to see it."""
        directory = os.environ.get(SCREENSHOTS)
        if directory:
            self.resize(width, least_height)
            self.resize(width, max(least_height, int(self.run("return document.documentElement.scrollHeight"))))
            self.driver.save_screenshot(str(Path(directory) / f"{name}.png"))


@contextmanager
def browser(*, scripts: bool = True) -> Iterator[Browser]:
    """Start a browser.

    :param scripts: whether it runs JavaScript.
    """
    assert_may_start("a browser")
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver_program = shutil.which("chromedriver")
    if program is None or driver_program is None:
        raise RuntimeError("No browser is here. Install Chromium and its driver: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "no-first-run"):
        options.add_argument(f"--{argument}")
    # What the browser itself would ask for in the background.
    for argument in ("disable-background-networking", "disable-component-update", "disable-sync"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    driver = webdriver.Chrome(options=options, service=Service(driver_program))
    try:
        driver.set_page_load_timeout(60)
        yield Browser(driver)
    finally:
        driver.quit()

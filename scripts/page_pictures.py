"""Take the pictures of the page that the documentation shows: on a screen, and on a phone.

    .venv/bin/python scripts/page_pictures.py [FOLDER]     # into docs/images unless told

Starts the page with an empty cache, has it edit the sample, paints on its first frame, and takes pictures in a headless
Chromium. Needs chromium, chromedriver and the extras web and test. Look at the pictures before they are kept.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains

PORT = 17861
SCREEN, PHONE = (1280, 1500), (390, 844)


def until(what: Callable[[], Any], seconds: float = 600) -> Any:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise SystemExit("the page did not get there in time")
        time.sleep(0.3)
    return found


def driven() -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={SCREEN[0]},{SCREEN[1]}")
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def take(browser: webdriver.Chrome, size: tuple[int, int], path: Path, *, mobile: bool = False) -> None:
    """Take a picture of the page as wide as told, and as long as it is."""
    sized = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sized)
    browser.refresh()
    until(lambda: browser.find_elements("css selector", "#result video"))
    browser.find_element("css selector", "#again").click()  # a form that is filled in
    until(lambda: browser.find_elements("css selector", "#clip video"))
    browser.execute_script("window.scrollTo(0, 0)")
    time.sleep(4)
    length = int(browser.execute_script("return document.documentElement.scrollHeight"))
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**sized, "height": length})
    time.sleep(2)
    browser.save_screenshot(str(path))


def paint(browser: webdriver.Chrome) -> None:
    """Paint on the first frame."""
    browser.execute_script("document.querySelector('#part .label-wrap').click()")
    time.sleep(5)
    canvas = browser.find_element("css selector", "#canvas canvas")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    stroke = ActionChains(browser).move_to_element_with_offset(canvas, -70, -40).click_and_hold()
    for step in range(8):
        stroke = stroke.move_by_offset(14, 30 if step % 2 else -20)
    stroke.release().perform()
    time.sleep(2)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "images"
    with tempfile.TemporaryDirectory() as cache:
        told = os.environ | {"EVENREEL_CACHE": cache, "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", "evenreel", "web", "--port", str(PORT)]
        with subprocess.Popen(  # noqa: S603 - our own program
            command, env=told, stdout=subprocess.PIPE, text=True
        ) as page:
            assert page.stdout is not None
            page.stdout.readline()
            browser = driven()
            try:
                browser.get(f"http://127.0.0.1:{PORT}/")
                until(lambda: browser.find_elements("css selector", "#sample"))[0].click()
                news = until(lambda: browser.find_elements("css selector", "#news"))[0]
                until(lambda: ": done in " in news.text)
                until(lambda: browser.find_elements("css selector", "#result video"))
                time.sleep(3)
                take(browser, SCREEN, folder / "page.png")
                take(browser, PHONE, folder / "page-phone.png", mobile=True)
                browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
                paint(browser)
                part = browser.find_element("css selector", "#part")
                part.screenshot(str(folder / "page-part.png"))
            finally:
                browser.quit()
                page.terminate()


if __name__ == "__main__":
    main()

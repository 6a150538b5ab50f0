"""The page in a real browser: upload, edit, close the tab, come back, download; and what it must not do."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evenreel.cli import main
from video.making import moving, write_clip

pytestmark = pytest.mark.slow
PORT = 17860


@pytest.fixture
def page(tmp_path):
    """The page's address, and the cache that it works in."""
    pytest.importorskip("gradio", reason="needs the extra web")
    told = {"EVENREEL_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "evenreel", "web", "--port", str(PORT), "--upload-limit", "1"]
    with subprocess.Popen(command, env=os.environ | told, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"the page is at http://127.0.0.1:{PORT}/\n"
        yield f"http://127.0.0.1:{PORT}/"
        process.terminate()


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1400"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def until(what, seconds=600):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.3)
    raise AssertionError("it did not happen in time")


def one(browser, selector):
    return until(lambda: next(iter(browser.find_elements("css selector", selector)), None))


def asked(browser):
    """Addresses that the page asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def test_upload_edit_close_the_tab_come_back_and_download(page, browser, tmp_path, tiny_folder, monkeypatch):
    clip = write_clip(tmp_path / "in.mp4", moving(3, 64, 64), audio="aac")
    browser.get(page)
    one(browser, "#clip input[type=file]").send_keys(str(clip))
    one(browser, "#clip video")
    one(browser, "#prompt textarea").send_keys("<img src=x onerror=alert(1)> a star")
    one(browser, "#frames input, #frames textarea").send_keys("\ue003", "0:2")
    browser.execute_script(
        "[...document.querySelectorAll('.label-wrap')].find(one => one.textContent.includes('More')).click()"
    )
    model = one(browser, "#model input, #model textarea")
    model.send_keys("\ue009a\ue000", str(tiny_folder))
    one(browser, "#edit").click()
    until(lambda: "in.mp4" in one(browser, "#news").text or "in-" in one(browser, "#news").text)
    urls = asked(browser)
    browser.switch_to.new_window("tab")
    for handle in browser.window_handles[:-1]:
        browser.switch_to.window(handle)
        browser.close()
    browser.switch_to.window(browser.window_handles[0])
    browser.get(page)
    until(lambda: ": done in " in one(browser, "#news").text)
    assert "<img" not in one(browser, "#news").get_attribute("innerHTML")
    link = until(lambda: one(browser, "#result video").get_attribute("src"))
    data = urllib.request.urlopen(link).read()  # noqa: S310 (our own address)
    urls += asked(browser)
    assert [url for url in urls if not url.startswith((page, "data:", "blob:", "about:", "chrome:"))] == []
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "other"))
    told = ["edit", str(clip), "--prompt", "<img src=x onerror=alert(1)> a star", "--frames", "0:2"]
    assert main([*told, "--model", str(tiny_folder), "-q", "-o", str(tmp_path / "alone.mp4")]) == 0
    assert data == (tmp_path / "alone.mp4").read_bytes()

    # a phone shows all of it without scrolling sideways
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(page)
    one(browser, "#result video")
    until(lambda: browser.execute_script("return document.documentElement.scrollWidth") == 390, 20)

    # nothing else of this machine can be read through it, and nothing large given to it
    for path in ("/etc/passwd", str(Path(__file__)), f"{tmp_path}/cache/page/../../in.mp4", str(tiny_folder)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{page}gradio_api/file={path}")  # noqa: S310
        assert refused.value.code in (403, 404)
        refused.value.close()


def test_a_mask_is_painted_on_the_first_frame(page, browser, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains

    clip = write_clip(tmp_path / "in.mp4", moving(3, 128, 128))
    browser.get(page)
    one(browser, "#clip input[type=file]").send_keys(str(clip))
    one(browser, "#clip video")
    one(browser, "#part .label-wrap").click()
    canvas = one(browser, "#canvas canvas")
    until(lambda: list((tmp_path / "cache" / "page" / "uploads").rglob("background*")), 60)
    time.sleep(5)  # the frame is drawn into the canvas
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    stroke = ActionChains(browser).move_to_element_with_offset(canvas, -20, -30).click_and_hold()
    for _ in range(10):
        stroke = stroke.move_by_offset(6, 6)
    stroke.release().perform()
    time.sleep(3)
    one(browser, "#prompt textarea").send_keys("a star")
    one(browser, "#edit").click()
    (mask,) = until(lambda: list((tmp_path / "cache" / "page").rglob("masks/[!.]*.png")), 60)
    drawn = np.asarray(Image.open(mask))
    assert drawn.shape == (128, 128)
    assert 0.05 < (drawn == 255).mean() < 0.6
    command = until(lambda: one(browser, "#command textarea").get_attribute("value"))
    assert f"--mask {mask}" in command


def refusal(request):
    """The status that a request is refused with."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)  # noqa: S310
    refused.value.close()
    return refused.value.code


def test_large_bodies_and_other_sites_are_refused(page):
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
    sent = {"data": head + bytes(2_000_000) + b"\r\n--x--\r\n", "method": "POST"}
    told = {"Content-Type": "multipart/form-data; boundary=x"}
    assert refusal(urllib.request.Request(f"{page}gradio_api/upload", headers=told, **sent)) == 413  # noqa: S310
    for headers in ({"Origin": "http://elsewhere.example"}, {"Host": "elsewhere.example"}):
        assert refusal(urllib.request.Request(page, headers=headers)) == 403  # noqa: S310


def test_another_address_needs_a_password(capsys):
    assert main(["web", "--host", "0.0.0.0"]) == 2  # noqa: S104
    said = "evenreel: --host 0.0.0.0 lets other machines in, and that needs a password; give one with --password.\n"
    assert capsys.readouterr().err == said

"""The page in a real browser: upload, edit, close the tab, come back, download; and what it must not do."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evenreel import EditSettings, edit_file, load
from evenreel.cli import main
from lookers import save_depth
from tiny import save_tiny_control
from video.making import moving, write_clip

pytestmark = pytest.mark.slow
PORT = 17860


@contextmanager
def served(tmp_path):
    """The page's address; it works in `cache` there."""
    pytest.importorskip("gradio", reason="needs the extra web")
    told = {"EVENREEL_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "evenreel", "web", "--port", str(PORT), "--upload-limit", "1"]
    with subprocess.Popen(command, env=os.environ | told, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"the page is at http://127.0.0.1:{PORT}/\n"
        try:
            yield f"http://127.0.0.1:{PORT}/"
        finally:
            process.terminate()


@pytest.fixture
def page(tmp_path):
    with served(tmp_path) as address:
        yield address


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
    opened(browser, "More")
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


def opened(browser, title):
    """Open what is folded under a title."""
    browser.execute_script(
        "[...document.querySelectorAll('.label-wrap')].find(one => one.textContent.includes(arguments[0])).click()",
        title,
    )


def painted(browser, page, clip, cache):
    """Open the page, give it a clip and paint on its first frame."""
    from selenium.webdriver.common.action_chains import ActionChains

    browser.get(page)
    one(browser, "#clip input[type=file]").send_keys(str(clip))
    one(browser, "#clip video")
    one(browser, "#part .label-wrap").click()
    canvas = one(browser, "#canvas canvas")
    until(lambda: list((cache / "page" / "uploads").rglob("background*")), 60)
    time.sleep(5)  # the frame is drawn into the canvas
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    stroke = ActionChains(browser).move_to_element_with_offset(canvas, -20, -30).click_and_hold()
    for _ in range(10):
        stroke = stroke.move_by_offset(6, 6)
    stroke.release().perform()
    time.sleep(3)


def masks(cache):
    return until(lambda: list((cache / "page").rglob("masks/[!.]*.png")), 60)


def test_what_is_painted_is_followed_and_removed_as_from_the_command_line(
    page, browser, tmp_path, tiny_folder, monkeypatch
):
    pytest.importorskip("cv2")
    clip = write_clip(tmp_path / "in.mp4", moving(4, 128, 128), audio="aac")
    painted(browser, page, clip, tmp_path / "cache")
    browser.execute_script("document.querySelector('#remove input').click()")
    opened(browser, "More")
    one(browser, "#model input, #model textarea").send_keys("\ue009a\ue000", str(tiny_folder))
    one(browser, "#edit").click()
    until(lambda: ": done in " in one(browser, "#news").text)
    (mask,) = masks(tmp_path / "cache")
    said = until(lambda: one(browser, "#command textarea").get_attribute("value"))
    assert f"--mask {mask}" in said
    assert "--mask-frame 0" in said
    assert "--remove" in said
    data = urllib.request.urlopen(one(browser, "#result video").get_attribute("src")).read()  # noqa: S310
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(said)[1:], "-q", "-o", "alone.mp4"]) == 0
    assert data == (tmp_path / "alone.mp4").read_bytes()
    source, result = (load(tmp_path / name) for name in ("in.mp4", "alone.mp4"))
    assert result.timestamps == source.timestamps
    assert not torch.equal(result.frames, source.frames)


def test_depth_for_a_controlnet_is_made_as_from_the_command_line(
    page, browser, tmp_path, tiny_folder, monkeypatch
):
    models = {
        "model": tiny_folder,
        "control": save_tiny_control(tmp_path / "control"),
        "depth_model": save_depth(tmp_path / "depth"),
    }
    clip = write_clip(tmp_path / "in.mp4", moving(2, 64, 64))
    browser.get(page)
    one(browser, "#clip input[type=file]").send_keys(str(clip))
    one(browser, "#clip video")
    one(browser, "#prompt textarea").send_keys("a star")
    opened(browser, "More")
    for name, folder in models.items():
        one(browser, f"#{name} input, #{name} textarea").send_keys("\ue009a\ue000", str(folder))
    one(browser, "#control_kind input").send_keys("\ue009a\ue000", "depth", "\ue007")
    one(browser, "#edit").click()
    until(lambda: ": done in " in one(browser, "#news").text)
    said = until(lambda: one(browser, "#command textarea").get_attribute("value"))
    assert "--control-kind depth" in said
    assert f"--depth-model {models['depth_model']}" in said
    data = urllib.request.urlopen(one(browser, "#result video").get_attribute("src")).read()  # noqa: S310
    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(said)[1:], "-q", "-o", "alone.mp4"]) == 0
    assert data == (tmp_path / "alone.mp4").read_bytes()


def test_thirty_jobs_wait_in_two_tabs_and_one_is_cancelled(browser, tmp_path, tiny_folder, monkeypatch):
    """Those that were there before the page began, too; both tabs tell the same, and each result is its own."""
    pytest.importorskip("gradio", reason="needs the extra web")
    from evenreel.web.queue import Queue, page_jobs

    monkeypatch.setenv("EVENREEL_CACHE", str(tmp_path / "cache"))
    clip = write_clip(tmp_path / "in.mp4", moving(2, 64, 64))
    told = {"prompt": "a star", "model": str(tiny_folder), "host": "frame", "steps": 1}
    queue = Queue()
    for seed in range(30):
        queue.submit(clip, EditSettings(**told, seed=seed))
    with served(tmp_path) as page:
        browser.get(page)
        until(
            lambda: "in the queue" in one(browser, "#news").text or ": running" in one(browser, "#news").text
        )
        first = browser.current_window_handle
        browser.switch_to.new_window("tab")
        browser.get(page)
        until(lambda: "number" in one(browser, "#news").text)  # the newest, which is made last
        one(browser, "#cancel").click()
        until(lambda: ": cancelled" in one(browser, "#news").text, 60)
        until(lambda: [job.status for job in page_jobs()].count("done") == 29)
        seen = []

        def settled(text):
            return None if {"running", "waiting", "stopped"} & set(text.split()) else text

        for tab in (browser.current_window_handle, first):
            browser.switch_to.window(tab)
            # one behind others is asleep, and wakes
            seen.append(until(lambda: settled(one(browser, "#jobs").text), 60))
        assert seen[0] == seen[1]
    states = {job.state.task.settings["seed"]: job for job in page_jobs()}
    assert sorted(states) == list(range(30))
    assert states[29].status == "cancelled"
    results = {seed: Path(job.state.task.output) for seed, job in states.items()}
    assert not results[29].exists()
    for seed in (0, 28):
        alone = edit_file(clip, tmp_path / "alone.mp4", EditSettings(**told, seed=seed)).path
        assert results[seed].read_bytes() == alone.read_bytes()


def test_a_mask_is_painted_on_the_first_frame(page, browser, tmp_path):
    clip = write_clip(tmp_path / "in.mp4", moving(3, 128, 128))
    painted(browser, page, clip, tmp_path / "cache")
    one(browser, "#prompt textarea").send_keys("a star")
    one(browser, "#edit").click()
    (mask,) = masks(tmp_path / "cache")
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

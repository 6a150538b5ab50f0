"""The rating page and the report, used in a real browser."""

import json
import random
import re
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
import torch

from evenreel.errors import OutputError, SettingsError
from evenreel.study import item_log, study_record
from evenreel.study.experiments.catalogue import experiments
from evenreel.study.items import Item
from evenreel.study.rating.form import take_answers, write_form
from evenreel.study.rating.ratings import QUESTIONS, Pair, Ratings, pairs
from evenreel.study.rating.sample_size import raters_needed
from evenreel.study.report import report
from evenreel.study.report.formatting import FIGURES
from evenreel.study.run import actions, runner
from evenreel.study.settings import StudySettings, as_json

SETTINGS = StudySettings(
    clips=3, seeds=(0,), frames=4, steps=2, experiments=("hosts", "raters"), hosts=("frame", "vidtome")
)
PRINTS = {"model": "abc"}
PAIR = Pair("p", "a", "b", "a.jpg", "b.jpg", "a red ball")


WHOLE = StudySettings(
    clips=3,
    seeds=(0,),
    frames=4,
    steps=2,
    hosts=("frame", "vidtome"),
    adapter="mini",
    tokens={"8 shared": "8"},
    training_log="log",
)
"""All experiments but those on trainings, which no file is named for."""


@pytest.fixture
def whole(tmp_path):
    """A study of everything, as a run would leave it."""
    prints = PRINTS | {f"file {name}": name for name in ("mini", "8", "log")}
    record = {"settings": as_json(WHOLE), "fingerprints": prints}
    study_record.write_record(
        tmp_path, record | dict.fromkeys(("evenreel", "torch", "machine", "begun"), "-")
    )
    rng = random.Random(0)
    with item_log.Log(tmp_path / "items.jsonl") as log:
        for planned in runner.plan(WHOLE, experiments(WHOLE), prints):
            condition = planned.item.condition
            line = {"key": planned.key, "seconds": 1.0, "figures": {name: rng.random() for name in FIGURES}}
            rows = [f"t = {timestep}" for timestep in condition.options.get("timesteps", ())]
            for number, row in enumerate(rows):
                name = f"{planned.key}-{number}.jpg"
                actions.save_picture(torch.rand(4, 3, 16, 16), tmp_path / "frames" / name)
                line.setdefault("maps", {})[row] = name
            if condition.kind in ("edit", "control") and planned.picture:
                name = f"{planned.key}.jpg"
                line["picture"] = actions.save_picture(torch.rand(4, 3, 32, 32), tmp_path / "frames" / name)
            if condition.kind == "edit":
                line["series"] = {"timestep": [501.0, 1.0], "similarity": [rng.random(), rng.random()]}
            if condition.kind == "training":
                line["series"] = {name: [1.0, 2.0, 3.0] for name in ("step", "temporal")}
            log.append(line)
    return tmp_path


@pytest.fixture
def study(tmp_path):
    """A study of three clips, as a run would leave it."""
    record = {"settings": as_json(SETTINGS), "fingerprints": PRINTS}
    study_record.write_record(
        tmp_path, record | dict.fromkeys(("evenreel", "torch", "machine", "begun"), "-")
    )
    with item_log.Log(tmp_path / "items.jsonl") as log:
        for condition in experiments(SETTINGS)[0].conditions:
            for clip in range(SETTINGS.first, SETTINGS.first + SETTINGS.clips):
                key = Item(condition, clip, 0, SETTINGS.frames, SETTINGS.steps).key(PRINTS)
                name = actions.save_picture(torch.rand(4, 3, 32, 32), tmp_path / "frames" / f"{key}.jpg")
                figures = {"asked": 1.0, "kept": 1.0, "truth_psnr": 20.0, "warp_error": 0.01, "flicker": 0.1}
                log.append(
                    {"key": key, "figures": figures, "seconds": 1.0, "picture": name, "prompt": "a <b>"}
                )
    return tmp_path


class TestPairs:
    def test_sides_and_order_are_the_rater_s_own_and_stay(self, study, monkeypatch):
        known = item_log.read(study / "items.jsonl")
        compared = experiments(SETTINGS)  # once, and not for each of the raters
        monkeypatch.setattr("evenreel.study.rating.ratings.experiments", lambda _: compared)
        ann = pairs(SETTINGS, known, PRINTS, "ann")
        assert ann == pairs(SETTINGS, known, PRINTS, "ann")
        assert len(ann) == 3
        seen = {tuple((p.name, p.left) for p in pairs(SETTINGS, known, PRINTS, str(n))) for n in range(20)}
        assert len(seen) > 10
        lefts = [p.left for n in range(100) for p in pairs(SETTINGS, known, PRINTS, str(n))]
        assert 0.4 < lefts.count("frame") / len(lefts) < 0.6

    def test_nothing_to_compare(self):
        with pytest.raises(SettingsError, match="no pairs"):
            pairs(SETTINGS, {}, PRINTS, "ann")

    def test_one_experiment_alone_and_no_clips_that_are_the_same(self, study):
        known = item_log.read(study / "items.jsonl")
        assert {pair.name.partition(":")[0] for pair in pairs(SETTINGS, known, PRINTS, "ann", "hosts")} == {
            "hosts"
        }
        with pytest.raises(SettingsError, match="no pairs of clips to compare in 'theory'"):
            pairs(SETTINGS, known, PRINTS, "ann", "theory")
        same = {key: line | {"picture": "one.jpg"} for key, line in known.items()}
        with pytest.raises(SettingsError, match="no pairs"):
            pairs(SETTINGS, same, PRINTS, "ann")


class TestRatings:
    def test_answers_are_kept_and_the_last_counts(self, tmp_path):
        ratings = Ratings(tmp_path / "r.sqlite")
        ratings.add("ann", PAIR, dict.fromkeys(QUESTIONS, "left"), 1.0)
        ratings.add("ann", PAIR, dict.fromkeys(QUESTIONS, "right"), 1.0)
        ratings.add("bob", PAIR, dict.fromkeys(QUESTIONS, "same"), 1.0)
        again = Ratings(tmp_path / "r.sqlite")
        assert again.answered("ann") == {"p"}
        assert again.raters() == 2
        shares = {(one, q): estimate.mean for one, _, q, estimate in again.preferences([("b", "a")])}
        assert shares == {("b", question): 0.75 for question in QUESTIONS}

    def test_files_that_come_back_are_merged(self, tmp_path):
        ours, theirs = Ratings(tmp_path / "ours.sqlite"), Ratings(tmp_path / "theirs.sqlite")
        ours.add("ann", PAIR, dict.fromkeys(QUESTIONS, "left"), 1.0)
        theirs.add("ann", PAIR, dict.fromkeys(QUESTIONS, "right"), 1.0)  # later: it counts
        theirs.add("bob", PAIR, dict.fromkeys(QUESTIONS, "right"), 1.0)
        for _ in range(2):  # a second time changes nothing
            assert ours.merge(tmp_path / "theirs.sqlite") == 6
            assert ours.raters() == 2
            assert {e.mean for *_, e in ours.preferences([(PAIR.right, PAIR.left)])} == {1.0}
        assert theirs.merge(tmp_path / "ours.sqlite") == 6
        with pytest.raises(OutputError, match="there is no such file of ratings"):
            ours.merge(tmp_path / "none.sqlite")
        (tmp_path / "odd.sqlite").write_text("no database" * 200)
        with pytest.raises(OutputError, match="cannot be used for ratings"):
            ours.merge(tmp_path / "odd.sqlite")

    @pytest.mark.parametrize("answers", [{}, dict.fromkeys(QUESTIONS, "middle"), {"text": "left"}])
    def test_answers_that_are_none(self, tmp_path, answers):
        with pytest.raises(SettingsError):
            Ratings(tmp_path / "r.sqlite").add("ann", PAIR, answers, 1.0)


class TestForm:
    def test_half_of_the_pairs_have_each_condition_on_the_left(self, study):
        for name in map(str, range(6)):
            lefts = [
                pair.left for pair in pairs(SETTINGS, item_log.read(study / "items.jsonl"), PRINTS, name)
            ]
            assert abs(2 * lefts.count("frame") - len(lefts)) == 1  # of three

    def test_what_a_page_saves_is_taken_as_if_rated_here(self, study):
        assert write_form(study, study / "bob.html", "bob") == 3
        page = (study / "bob.html").read_text()
        assert "vidtome" not in page  # blind
        assert page.count("data:image/jpeg;base64,") == 6
        shown = json.loads(re.search(r"const pairs = (.*?), rater = ", page).group(1))
        answers = [
            {"pair": one["name"], "answers": dict.fromkeys(QUESTIONS, "left"), "seconds": 2.5, "at": 10.0}
            for one in shown
        ]
        told = {"format": "evenreel ratings 1", "rater": "bob", "experiment": None, "answers": answers}
        file = study / "answers.json"
        file.write_text(json.dumps(told))
        taken, here = Ratings(study / "ratings.sqlite"), Ratings(study / "here.sqlite")
        for _ in range(2):  # a second time changes nothing
            assert take_answers(study, file, taken) == 9
        for pair in pairs(SETTINGS, item_log.read(study / "items.jsonl"), PRINTS, "bob"):
            here.add("bob", pair, dict.fromkeys(QUESTIONS, "left"), 2.5)
        assert sorted(row[:7] for row in taken.rows()) == sorted(row[:7] for row in here.rows())
        file.write_text(json.dumps({**told, "rater": "cem"}))
        with pytest.raises(SettingsError, match="answers pairs that this study does not have"):
            take_answers(study, file, taken)

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "evenreel ratings 2"}'])
    def test_other_files_are_refused(self, study, text):
        (study / "x.json").write_text(text)
        with pytest.raises(SettingsError, match="is not a file of answers"):
            take_answers(study, study / "x.json", Ratings(study / "r.sqlite"))

    def test_raters_that_are_needed(self):
        """Simulated: so many people find the preference about as often as they should."""
        assert raters_needed(0.6, correlation=0.0) < raters_needed(0.6) < raters_needed(0.6, correlation=0.3)
        assert raters_needed(0.6) == raters_needed(0.4)
        for wrong in ({"preference": 0.5}, {"preference": 1.2}, {"preference": 0.6, "pairs": 0}):
            with pytest.raises(SettingsError):
                raters_needed(**wrong)
        people, pairs_each, rng = raters_needed(0.6, tests=1, correlation=0.1), 20, np.random.default_rng(0)
        # shares of people, Beta, whose answers are alike as told: 1 / (a + b + 1) = 0.1
        shares = rng.beta(0.6 * 9, 0.4 * 9, size=(4000, people))
        means = rng.binomial(pairs_each, shares) / pairs_each
        z = (means.mean(1) - 0.5) / (means.std(1, ddof=1) / people**0.5)
        assert 0.74 < (z > 1.96).mean() < 0.9


@pytest.fixture
def address(study):
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra rating")
    from evenreel.study.rating.page import rating_app

    server = uvicorn.Server(uvicorn.Config(rating_app(study, "ann"), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"):
        options.add_argument(f"--{flag}")
    for flag in (
        "disable-background-networking",
        "disable-component-update",
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{flag}")
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


class TestBrowser:
    def test_a_page_that_was_sent_needs_nothing_else(self, browser, study):
        from selenium.webdriver.common.by import By

        write_form(study, study / "bob.html", "bob")
        browser.get((study / "bob.html").as_uri())
        for number in range(1, 4):
            assert browser.find_element(By.ID, "progress").text == f"Pair {number} of 3"
            assert browser.find_element(By.ID, "prompt").text == "a <b>"
            for question in QUESTIONS:
                browser.find_element(By.CSS_SELECTOR, f"input[name={question}][value=right]").click()
            browser.find_element(By.CSS_SELECTOR, "form button").click()
            if number == 1:
                browser.refresh()  # what was answered is kept
        assert browser.find_element(By.ID, "done").is_displayed()
        assert not browser.find_element(By.ID, "form").is_displayed()
        script = "return JSON.stringify({format: 'evenreel ratings 1', rater, experiment, answers})"
        (study / "answers.json").write_text(browser.execute_script(script))
        ratings = Ratings(study / "ratings.sqlite")
        assert take_answers(study, study / "answers.json", ratings) == 9
        assert {row[3] for row in ratings.rows()} == {"right"}

    def test_a_person_rates_by_keyboard_alone(self, browser, address, study):
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys
        from selenium.webdriver.support.expected_conditions import (
            presence_of_element_located,
            text_to_be_present_in_element,
        )
        from selenium.webdriver.support.wait import WebDriverWait

        def body():
            return browser.find_element(By.TAG_NAME, "body")

        wait = WebDriverWait(browser, 20)
        browser.get(address)
        assert browser.find_element(By.ID, "prompt").text == "a <b>"
        assert "vidtome" not in browser.page_source  # blind
        for number in range(1, 4):
            wait.until(text_to_be_present_in_element((By.ID, "progress"), f"Pair {number} of 3"))
            shown = [
                c.value_of_css_property("background-image")
                for c in browser.find_elements(By.CLASS_NAME, "clip")
            ]
            assert len(shown) == 2
            assert all("/frames/" in picture for picture in shown)
            for key in ("1", "3", Keys.BACKSPACE, Keys.BACKSPACE, "2", "3", "1", Keys.ENTER):
                body().send_keys(key)
        wait.until(presence_of_element_located((By.ID, "done")))
        rows = (
            sqlite3.connect(study / "ratings.sqlite")
            .execute("SELECT question, choice FROM answers")
            .fetchall()
        )
        assert len(rows) == 9
        browser.get(report.write_report(study).as_uri())
        assert "rather than" in browser.find_element(By.ID, "raters").text

    def test_an_incomplete_answer_is_not_sent(self, browser, address, study):
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        browser.get(address)
        browser.find_element(By.TAG_NAME, "body").send_keys("1", Keys.ENTER)
        assert browser.find_element(By.ID, "progress").text == "Pair 1 of 3"
        assert Ratings(study / "ratings.sqlite").raters() == 0

    def test_the_report_fits_a_phone_and_paper(self, browser, whole):
        from selenium.webdriver.common.by import By

        browser.set_window_size(390, 844)
        browser.get(report.write_report(whole).as_uri())
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= browser.execute_script("return window.innerWidth")
        for closed in browser.find_elements(By.TAG_NAME, "details"):
            browser.execute_script("arguments[0].open = true", closed)
        assert width == browser.execute_script("return document.documentElement.scrollWidth")
        pictures = browser.find_elements(By.TAG_NAME, "img")
        assert len(pictures) > 20
        for picture in pictures:  # those that are far down load when they are come to
            browser.execute_script("arguments[0].loading = 'eager'", picture)
        browser.set_script_timeout(20)
        browser.execute_async_script(
            "const done = arguments[0]; Promise.all([...document.images].map(one => one.decode())).then(done, done)"
        )
        assert all(browser.execute_script("return arguments[0].naturalWidth", one) > 0 for one in pictures)
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert browser.execute_cdp_cmd("Page.printToPDF", {})["data"]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        browser.execute_cdp_cmd(  # A4 without its margins, at 96 dots an inch
            "Emulation.setDeviceMetricsOverride",
            {"width": 703, "height": 1031, "deviceScaleFactor": 1, "mobile": False},
        )
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 703

    def test_the_report_has_every_experiment_with_its_answer(self, browser, whole):
        from selenium.webdriver.common.by import By

        browser.get(report.write_report(whole).as_uri())
        short = browser.find_element(By.ID, "short").find_element(By.XPATH, "following::table").text
        for one in experiments(WHOLE):
            shown = browser.find_element(By.ID, one.name)
            if one.not_run:
                assert one.not_run in browser.find_element(By.ID, "not-run").text
                continue
            answer = shown.find_element(By.CLASS_NAME, "answer").text
            assert len(answer) > 20
            assert answer in short
        assert (
            len(browser.find_elements(By.CSS_SELECTOR, "#similarity .curve")) == 4
        )  # two lines, two in the legend
        assert len(browser.find_elements(By.CSS_SELECTOR, "#maps img")) == 6
        assert len(browser.find_elements(By.CSS_SELECTOR, "#training .curve")) == 2


class TestServer:
    def status(self, address, form=None, **headers):
        data = urllib.parse.urlencode(form).encode() if form else None
        try:
            with urllib.request.urlopen(urllib.request.Request(address, data, headers)) as answer:  # noqa: S310 - ours
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def test_other_names_other_files_and_other_pages_are_refused(self, address, study):
        assert self.status(address) == 200
        assert self.status(address, Host="evil.example") == 400
        assert self.status(address + "frames/..%2Fitems.jsonl") == 404
        assert self.status(address + "frames/nothing.jpg") == 404
        form = {"number": "1", "shown": "0"} | dict.fromkeys(QUESTIONS, "left")
        assert self.status(address + "answer", form) == 403
        with urllib.request.urlopen(address) as page:  # noqa: S310 - ours
            text = page.read().decode()
        token = re.search(r'answer\?token=([^"]+)"', text)[1]
        assert self.status(address + "answer", form | {"token": token}) == 403  # its place is the address
        answer = f"{address}answer?token={token}"
        form["shown"] = re.search(r'name="shown" value="([^"]+)"', text)[1]
        for wrong in (
            {"text": "?"},
            *({"number": number} for number in ("99", "0", "-1", "1e0", "", "\u0661", "9" * 3000)),
            *({"shown": shown} for shown in ("-inf", "nan", "inf", "0", "1e308", "-1", "", "now")),
            {str(number): "x" for number in range(20)},
        ):
            assert self.status(answer, form | wrong) == 400, wrong
        assert self.status(answer, form | {"text": "x" * 5000}) == 413
        assert Ratings(study / "ratings.sqlite").raters() == 0
        assert self.status(answer, form) == 200
        assert Ratings(study / "ratings.sqlite").raters() == 1

    def test_every_answer_keeps_other_pages_away(self, address):
        for path in ("", "nothing", "frames/nothing.jpg"):
            try:
                headers = urllib.request.urlopen(address + path).headers  # noqa: S310 - ours
            except urllib.error.HTTPError as error:
                headers = error.headers
            assert headers["X-Frame-Options"] == "DENY"
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert "default-src 'none'" in headers["Content-Security-Policy"]

    def test_a_body_without_token_is_not_read(self, address):
        """The server answers while nearly all of what was promised is still to come."""
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            head = "POST /answer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000000\r\n\r\n"
            client.sendall(head.encode() + b"x" * 1000)
            assert client.recv(12) == b"HTTP/1.1 403"

    def test_people_who_leave_in_the_middle_leave_nothing_behind(self, address, study):
        """A browser that is closed while it sends, or while it is answered: no answer is kept, and others go on."""
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        with urllib.request.urlopen(address) as page:  # noqa: S310 - ours
            text = page.read().decode()
        token = re.search(r'answer\?token=([^"]+)"', text)[1]
        shown = re.search(r'name="shown" value="([^"]+)"', text)[1]
        body = urllib.parse.urlencode(
            {"number": "1", "shown": shown} | dict.fromkeys(QUESTIONS, "left")
        ).encode()
        post = f"POST /answer?token={token} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        post += "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        halves = (
            post.encode() + body[: len(body) // 2],
            post.encode(),
            post.encode()[:40],
            b"GET / HTTP/1.1\r\n",
        )
        for begun in (*halves, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            for abrupt in (False, True):
                client = socket.create_connection((host, int(port)), timeout=10)
                client.sendall(begun)
                if abrupt:  # a reset, in the place of a farewell
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
        assert self.status(address) == 200
        assert Ratings(study / "ratings.sqlite").raters() == 0
        form = dict(urllib.parse.parse_qsl(body.decode()))
        assert self.status(f"{address}answer?token={token}", form) == 200
        assert Ratings(study / "ratings.sqlite").raters() == 1

    def test_the_address_is_told_once_it_answers(self, study):
        pytest.importorskip("uvicorn", reason="needs the extra rating")
        code = (
            "import sys, pathlib; from evenreel.study.rating.server import serve\n"
            "serve(pathlib.Path(sys.argv[1]), 'ann', 0, lambda address: print(address, flush=True))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(study)], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                assert self.status(process.stdout.readline().strip()) == 200
            finally:
                process.terminate()

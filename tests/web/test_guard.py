"""Requests that the page refuses, and what it adds to its answers; without the page behind it."""

import asyncio

import pytest

pytest.importorskip("gradio", reason="needs the extra web")

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from evenreel.web.addresses import is_loopback, name_in
from evenreel.web.guard import Guard


def asked(*, loopback_only=True, **headers):
    app = Guard(PlainTextResponse("the page"), loopback_only=loopback_only)
    return TestClient(app).get("/", headers={"Host": "127.0.0.1:7860", **headers})


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "127.0.0.1"])
def test_the_page_s_own_requests_pass(host):
    answer = asked(Host=host, Origin=f"http://{host}")
    assert (answer.status_code, answer.text) == (200, "the page")
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "origin",
    ["http://elsewhere.example", "null", "http://127.0.0.1:8000", "http://127.0.0.1:7860.example", ""],
)
def test_what_another_site_sends_is_refused(origin):
    assert asked(Origin=origin).status_code == 403
    assert asked(loopback_only=False, Origin=origin).status_code == 403


@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1.example:7860", "[::1", "", "0.0.0.0:7860"])
def test_another_name_for_this_machine_is_refused_where_nobody_else_can_reach_it(host):
    assert asked(Host=host).status_code == 403
    assert asked(Host="studio.example:7860", loopback_only=False).status_code == 200


def test_a_tab_that_is_closed_while_it_sends_is_no_fault():
    sent = []

    async def upload(scope, receive, send):
        await Request(scope, receive).body()

    async def left():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    told = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    asyncio.run(Guard(upload, loopback_only=True)(told, left, send))
    assert sent == []


def test_names():
    assert [name_in(text) for text in ("a:1", "[::1]:2", "b", "[")] == ["a", "::1", "b", ""]
    assert [is_loopback(text) for text in ("localhost", "127.9.9.9", "::1", "10.0.0.1", "x")] == [
        True,
        True,
        True,
        False,
        False,
    ]

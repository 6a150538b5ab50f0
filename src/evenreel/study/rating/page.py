"""The page on which people compare clips, served on this machine only."""

import re
import secrets
import time
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qsl

import jinja2
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evenreel.errors import SettingsError
from evenreel.study import item_log
from evenreel.study.rating.ratings import CHOICES, QUESTIONS, Ratings
from evenreel.study.rating.ratings import pairs as pairs_of
from evenreel.study.study_record import read_record, settings_of

HOSTS = ["127.0.0.1", "localhost"]
"""Names by which a browser may call; others come from pages that try to reach this one."""
LARGEST_ANSWER = 4096
"""Bytes of one answer; a page sends about 100."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; script-src 'nonce-{}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def rating_app(folder: Path, rater: str, experiment: str | None = None) -> Starlette:
    """Return the page for one rater of the study in a folder, or of one experiment; answers go to
    `folder`/ratings.sqlite.

    Raises: SettingsError where there is nothing to compare, OutputError where answers cannot be kept.
    """
    record = read_record(folder)
    settings = settings_of(record)
    known = item_log.read(folder / "items.jsonl")
    pairs = pairs_of(settings, known, record["fingerprints"], rater, experiment)
    ratings = Ratings(folder / "ratings.sqlite")
    pictures = {picture for pair in pairs for picture in (pair.left_picture, pair.right_picture)}
    token = secrets.token_urlsafe(16)  # so that no other page can answer
    text = resources.files("evenreel.study.rating").joinpath("rate.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    begun = time.monotonic()

    def page(_: Request) -> Response:
        done = ratings.answered(rater)
        number = next((index for index, pair in enumerate(pairs) if pair.name not in done), None)
        nonce = secrets.token_urlsafe(16)
        return HTMLResponse(
            template.render(
                pair=None if number is None else pairs[number],
                number=(number or 0) + 1,
                total=len(pairs),
                frames=settings.frames,
                token=token,
                nonce=nonce,
                shown=time.monotonic(),
                questions=QUESTIONS,
                choices=CHOICES,
            ),
            headers={name: value.replace("{}", nonce) for name, value in HEADERS.items()},
        )

    async def answer(request: Request) -> Response:
        # The token stands in the address, so that nothing of a body is read for those who have none.
        if not secrets.compare_digest(request.query_params.get("token", "").encode(), token.encode()):
            return PlainTextResponse("This page is from an earlier run; load it again.", status_code=403)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_ANSWER:
                return PlainTextResponse("This answer is too long.", status_code=413)
        try:
            form = dict(parse_qsl(body.decode("ascii"), max_num_fields=10))
            pair = pairs[_whole(form.get("number", ""), len(pairs)) - 1]
            seconds = _seconds(form.get("shown", ""), begun)
            ratings.add(rater, pair, {name: form.get(name, "") for name in QUESTIONS}, seconds)
        except (SettingsError, ValueError) as error:
            return PlainTextResponse(f"This answer is not complete: {error}", status_code=400)
        return RedirectResponse("/", status_code=303)

    def picture(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in pictures:
            return PlainTextResponse("There is no such picture.", status_code=404)
        return FileResponse(folder / "frames" / name)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/answer", answer, methods=["POST"]),
            Route("/frames/{name}", picture),
        ],
        middleware=[Middleware(_Guarded), Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
    )


class _Guarded:
    """Gives every response the headers that keep other pages from showing this one or adding to it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value.replace(" script-src 'nonce-{}';", ""))
            await send(message)

        await self.app(scope, receive, sent)


def _whole(text: str, largest: int) -> int:
    """A whole number from 1 to `largest`. Raises: ValueError."""
    if re.fullmatch("[0-9]{1,9}", text) is None or not 1 <= int(text) <= largest:
        raise ValueError(f"there is no pair {text[:20]!r}.")
    return int(text)


def _seconds(shown: str, begun: float) -> float:
    """Seconds since a moment of this run's clock, which began at `begun`. Raises: ValueError."""
    seconds = time.monotonic() - float(shown)
    if not 0 <= seconds <= time.monotonic() - begun:
        raise ValueError("it was shown at no moment of this run.")
    return seconds

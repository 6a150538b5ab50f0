"""The page on which people compare clips, served on this machine only."""

import secrets
import time
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qsl

import jinja2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from evenreel.errors import SettingsError
from evenreel.study import item_log
from evenreel.study.rating.ratings import CHOICES, QUESTIONS, Ratings
from evenreel.study.rating.ratings import pairs as pairs_of
from evenreel.study.study_record import read_record, settings_of

HOSTS = ["127.0.0.1", "localhost"]
"""Names by which a browser may call; others come from pages that try to reach this one."""


def rating_app(folder: Path, rater: str) -> Starlette:
    """The page for one rater of the study in a folder; answers go to `folder`/ratings.sqlite.

    Raises: SettingsError where there is nothing to compare, OutputError where answers cannot be kept.
    """
    record = read_record(folder)
    settings = settings_of(record)
    pairs = pairs_of(settings, item_log.read(folder / "items.jsonl"), record["fingerprints"], rater)
    ratings = Ratings(folder / "ratings.sqlite")
    pictures = {picture for pair in pairs for picture in (pair.left_picture, pair.right_picture)}
    token = secrets.token_urlsafe(16)  # so that no other page can answer
    text = resources.files("evenreel.study.rating").joinpath("rate.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)

    def page(_: Request) -> Response:
        done = ratings.answered(rater)
        number = next((index for index, pair in enumerate(pairs) if pair.name not in done), None)
        return HTMLResponse(
            template.render(
                pair=None if number is None else pairs[number],
                number=(number or 0) + 1,
                total=len(pairs),
                frames=settings.frames,
                token=token,
                shown=time.time(),
                questions=QUESTIONS,
                choices=CHOICES,
            ),
            headers={"Cache-Control": "no-store"},
        )

    async def answer(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        if not secrets.compare_digest(form.get("token", "").encode(), token.encode()):
            return PlainTextResponse("This page is from an earlier run; load it again.", status_code=403)
        try:
            pair = pairs[int(form["number"]) - 1]
            seconds = max(0.0, time.time() - float(form["shown"]))
            ratings.add(rater, pair, {name: form.get(name, "") for name in QUESTIONS}, seconds)
        except (SettingsError, KeyError, ValueError, IndexError) as error:
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
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
    )

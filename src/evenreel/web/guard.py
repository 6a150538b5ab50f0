"""What stands before the page: it answers its own pages in its own name alone, and has browsers ask nobody else."""

from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evenreel.web.addresses import is_loopback, name_in

SELF_ONLY = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Browsers ask no other machine, whatever the page says."""


class Guard:
    """ASGI middleware; refuses what other sites have a browser send (their `Origin`), and other names for this machine.

    A site whose name is made to point at this machine would else read the page as its own (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool) -> None:
        """`loopback_only`: the page listens on this machine alone, so that nobody else's name for it is right."""
        self.app, self.loopback_only = app, loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if refused := self._refused(Headers(scope=scope)):
            await PlainTextResponse(refused, status_code=403)(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(key.lower().encode(), value.encode()) for key, value in SELF_ONLY.items()]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        with suppress(
            ClientDisconnect
        ):  # a tab was closed in the middle of an upload: nobody is left to answer
            await self.app(scope, receive, sent)

    def _refused(self, headers: Headers) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.loopback_only and not is_loopback(name_in(host)):
            return "The page is for this machine alone; open it at 127.0.0.1.\n"
        if origin is not None and urlsplit(origin).netloc != host:
            return "Another site has sent this request; open the page itself.\n"
        return ""

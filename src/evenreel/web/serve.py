"""Serving the page: on this machine alone unless told, with a password where others can reach it."""

import ipaddress
import os
from collections.abc import Callable

from evenreel.errors import OutputError, SettingsError, argument

SELF_ONLY = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Browsers ask no other machine, whatever the page says."""


def serve(
    host: str, port: int, password: str | None, upload_limit: float, ready: Callable[[str], None]
) -> None:
    """Serve the page until interrupted; `ready` is told its address. `upload_limit` is in MB. Raises: EvenreelError."""
    if not _is_loopback(host) and not password:
        raise SettingsError(
            f"{argument('host')} {host} lets other machines in, and that needs a password; give one with "
            f"{argument('password')}."
        )
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import gradio as gr

        from evenreel.web import page as pages
        from evenreel.web.queue import Queue, folder
    except ImportError as error:
        raise SettingsError(
            f"the page needs {error.name}, which is not installed; pip install 'evenreel[web]'."
        ) from error
    os.environ["GRADIO_TEMP_DIR"] = str(pages.room_for_uploads())
    queue = Queue()
    blocks = pages.page(queue)
    theme = gr.themes.Default(font=pages.FONT, font_mono=pages.MONO)
    try:
        app, url, _ = blocks.queue(max_size=64).launch(
            server_name=host,
            server_port=port,
            auth=("evenreel", password) if password else None,
            max_file_size=int(upload_limit * 1e6),
            allowed_paths=[str(folder())],
            prevent_thread_lock=True,
            share=False,
            ssr_mode=False,
            quiet=True,
            footer_links=[],
            theme=theme,
            css=pages.CSS,
            app_kwargs={"middleware": [_headers()]},
        )
    except OSError as error:
        raise OutputError(f"port {port} cannot be used; choose another {argument('port')}.") from error
    del app
    queue.start()
    ready(url)
    try:
        blocks.block_thread()
    finally:
        queue.stop()
        blocks.close(verbose=False)


def _headers() -> object:
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    class Headers:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                if message["type"] == "http.response.start":
                    more = [(key.lower().encode(), value.encode()) for key, value in SELF_ONLY.items()]
                    message["headers"] = [*message["headers"], *more]
                await send(message)

            await self.app(scope, receive, sent)

    return Middleware(Headers)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

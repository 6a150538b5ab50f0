"""Serving the page: on this machine alone unless told, with a password where others can reach it."""

import os
from collections.abc import Callable

from evenreel.errors import OutputError, SettingsError, argument
from evenreel.web.addresses import is_loopback


def serve(
    host: str, port: int, password: str | None, upload_limit: float, ready: Callable[[str], None]
) -> None:
    """Serve the page until interrupted; `ready` is told its address. `upload_limit` is in MB. Raises: EvenreelError."""
    if not is_loopback(host) and not password:
        raise SettingsError(
            f"{argument('host')} {host} lets other machines in, and that needs a password; give one with "
            f"{argument('password')}."
        )
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import gradio as gr
        from starlette.middleware import Middleware

        from evenreel.web import page as pages
        from evenreel.web.guard import Guard
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
            app_kwargs={"middleware": [Middleware(Guard, loopback_only=is_loopback(host))]},
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

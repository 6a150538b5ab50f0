"""Serving a page until it is interrupted."""

import socket
from collections.abc import Callable
from pathlib import Path

from evenreel.errors import OutputError, SettingsError, argument


def serve(
    folder: Path, rater: str, port: int, ready: Callable[[str], None], experiment: str | None = None
) -> None:
    """Serve the rating page of a study, or of one experiment; `ready` is told its address once it answers.

    Raises any EvenreelError.
    """
    try:
        import uvicorn

        from evenreel.study.rating.page import rating_app
    except ImportError as error:
        raise SettingsError(
            f"the rating page needs {error.name}, which is not installed; pip install 'evenreel[rating]'."
        ) from error
    app = rating_app(folder, rater, experiment)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise OutputError(
                f"port {port} cannot be used ({error.strerror}); choose another {argument('port')}."
            ) from error

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                ready(f"http://127.0.0.1:{listener.getsockname()[1]}/")

        Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])

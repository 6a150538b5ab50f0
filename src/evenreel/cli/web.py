"""`evenreel web`."""

from typing import Annotated

import typer

from evenreel.cli.console import stdout


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("web")(web)


def web(
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that other machines reach needs a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    password: Annotated[
        str | None,
        typer.Option(
            envvar="EVENREEL_PASSWORD",
            help="Password that the page asks for; the user is `evenreel`.",
            show_default="none",
        ),
    ] = None,
    upload_limit: Annotated[
        float, typer.Option(min=1, max=1e6, help="Largest clip that may be given to the page, in MB.")
    ] = 2000,
) -> None:
    """Serve a page on which clips are edited in a browser.

    Edits are jobs (`evenreel jobs`): they wait in a queue and are made one after the other; they go on when the tab is
    closed, and when the page was stopped and is started again. Needs `pip install 'evenreel\\[web]'`.
    """
    from evenreel.web.serve import serve

    serve(
        host, port, password, upload_limit, lambda url: stdout().print(f"the page is at {url}", markup=False)
    )

"""The command line: thin files that parse, call a workflow, and show progress and errors."""

from evenreel.cli.app import main

__all__ = ["main"]

"""Why a figure is missing."""


class UnavailableError(Exception):
    """Why a figure cannot be given: the rest of a sentence, for people."""

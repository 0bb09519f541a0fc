"""An HTTP service on Postgres."""

NAME = "demo"
__version__ = "0.1.0"


class CommandError(Exception):
    """Why a command did not do what it should, one line for each problem."""

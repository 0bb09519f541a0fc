"""The service and the tools that belong to it."""

import argparse
import contextlib
import os
import platform
import signal
import sys
import time
from typing import NoReturn

from app import NAME, CommandError, __version__, logs, migrations, serve, settings
from app.dev import dev
from app.nopool import DatabaseError, Misconfigured, describe
from app.nopool.refusals import Refusal, advice, is_password

DONE, FAILED, INTERRUPTED = 0, 1, 130
AUTHENTICATION_DELAY = 3.0


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    top = argparse.ArgumentParser(
        prog="python -m app", epilog="Settings come from the environment; .env.example lists them."
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="answer HTTP requests (the default)")
    commands.add_parser("dev", help="serve on a private Postgres of this machine")
    migrate = commands.add_parser("migrate", help="apply all migrations, take the last one back, list them")
    migrate.add_argument("action", choices=migrations.COMMANDS)
    commands.add_parser("version", help="print the version")
    return top


def main() -> int:
    """Run a command and return the exit status. Results go to stdout, logs and errors to stderr."""
    if any("://" in arg for arg in sys.argv):  # argparse would print it with its password
        parser().error("a database URL belongs into the environment, as DATABASE_URL")
    args = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(args)
    except KeyboardInterrupt:
        print(f"{NAME}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (CommandError, DatabaseError) as err:
        return _explain(err, str(err))
    except Exception as err:  # of the database, of Alembic, or ours
        if os.environ.get("LOG_LEVEL", "").lower() == "debug":
            raise
        return _explain(err, f"{describe(err)} (LOG_LEVEL=debug says more)")


def _run(args: argparse.Namespace) -> int:
    if args.command == "version":
        print(f"{NAME} {__version__} (Python {platform.python_version()})")
        return DONE
    if args.command == "dev":
        dev()
        return DONE
    found = settings.load()
    logs.configure(found)
    if args.command == "migrate":
        migrations.run(found, args.action, sys.stdout)
        return DONE
    serve.serve(found)
    return DONE


def _explain(err: BaseException, text: str) -> int:
    do = advice(text) if isinstance(err, Misconfigured) else ""
    for line in (f"{text}: {do}" if do else text).splitlines():  # one for each problem with the settings
        print(f"{NAME}: error: {line.strip()}", file=sys.stderr)
    if isinstance(err, Misconfigured) and is_password(Refusal(text, answered=True)):
        # Restarted over and over, the process would have its address blocked: Supavisor allows ten
        # refused passwords in 150 s.
        time.sleep(AUTHENTICATION_DELAY)
    return FAILED


def leave(status: int) -> NoReturn:
    """End the process, whatever the threads of handlers still do: nothing interrupts them."""
    with contextlib.suppress(OSError):  # whoever reads it may have had enough
        sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())

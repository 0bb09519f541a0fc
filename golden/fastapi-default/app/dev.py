"""Serve on a Postgres of its own, which is started, migrated and stopped."""

import os
import sys
from pathlib import Path

from app import NAME, CommandError, logs, migrations, serve, settings
from app.localpg import Server, write_file

FOLDER = Path(".dev")  # the private Postgres, whose data stays for the next time, and how to reach it


def dev() -> None:
    """Serve until a signal."""
    env = os.environ.get("APP_ENV", "")
    if env not in ("", "local"):
        raise CommandError(f'dev is for development, and APP_ENV is "{env}": unset it, or use serve')
    server = Server(FOLDER / "postgres")
    try:
        server.start()
        server.create_database(NAME)
        url = server.url(NAME)
        os.environ |= {"APP_ENV": "local", "DATABASE_URL": url, "MIGRATION_DATABASE_URL": url}
        if not os.environ.get("DB_MAX_SESSIONS", "") + os.environ.get("DB_POOL_SIZE", ""):
            os.environ["DB_MAX_SESSIONS"] = "10"  # nobody else uses this server, so there is nothing to guess
        # A file, so that the password is on no screen and in no log.
        write_file(FOLDER / "env", f"export APP_ENV=local DATABASE_URL='{url}'\n")
        found = settings.load()
        logs.configure(found)
        migrations.run(found, "up", sys.stdout)
        print(f"serving on http://localhost:{found.listen_at[1]}")
        print(f'its database, from another terminal: . {FOLDER / "env"} && psql "${{DATABASE_URL}}"', flush=True)
        serve.serve(found)
    finally:
        server.stop()

"""The application for "uvicorn app.main:app", "fastapi dev" and the like.

"python -m app serve" does more: it asks the database before it listens, fails /ready before it stops listening, cuts
off what takes too long, and ends with 0.
"""

import logging

from app import logs, settings
from app.api.app import create_app
from app.nopool import Database

_settings = settings.load()
logs.configure(_settings)
logging.getLogger("app").warning("without python -m app serve: no check of the database, no orderly end")
app = create_app(_settings, Database(_settings.database_url, _settings.limits))

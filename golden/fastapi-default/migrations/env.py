"""What Alembic runs: on the connection of "python -m app migrate", else on one of its own."""

from alembic import context
from sqlalchemy import Connection

from app import migrations, settings
from app.models import Base
from app.notes import models  # noqa: F401 (each module with tables, for autogenerate)


def run(connection: Connection) -> None:
    """Run each migration in a transaction of its own."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        version_table_schema=context.config.attributes.get("schema"),
        on_version_apply=context.config.attributes.get("on_apply"),
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with migrations.connected(settings.load()) as own:
        run(own)

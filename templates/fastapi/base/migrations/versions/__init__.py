"""The migrations, in the order that each says of itself. Make the next one by: alembic revision -m "what it does"."""

"""Create notes."""

from alembic import op

revision = "00001"
down_revision = None


def upgrade() -> None:
    """Apply it."""
    op.execute("""
        create table notes (
            id         bigint generated always as identity primary key,
            title      text not null,
            body       text not null default '',
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            constraint notes_title_length_check check (char_length(title) between 1 and 200),
            constraint notes_body_length_check check (char_length(body) <= 10000)
        )
    """)


def downgrade() -> None:
    """Take it back."""
    op.execute("drop table notes")

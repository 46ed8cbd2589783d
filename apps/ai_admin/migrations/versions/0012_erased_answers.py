"""Idempotency keys of requests about users who were erased."""

from alembic import op

revision = "0012"
down_revision = "0009"

# A new table that the version before does not know: while that one serves, its purges leave nothing here.
ERASED_ANSWERS = """
CREATE TABLE erased_answers (
    digest bytea PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE erased_answers IS
    'a retry under such an Idempotency-Key is refused, and does not create the person again: ai_admin.idempotency';
COMMENT ON COLUMN erased_answers.digest IS 'under a key of the vault, so that nobody finds a key by guessing';

-- removal of expired digests
CREATE INDEX erased_answers_expires_at ON erased_answers (expires_at);
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(ERASED_ANSWERS)

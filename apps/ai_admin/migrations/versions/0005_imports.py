"""Imports of users: how far each has come, and the rows it could not take."""

from alembic import op

revision = "0005"
down_revision = "0004"

IMPORTS = """
CREATE TABLE imports (
    id uuid PRIMARY KEY,
    digest bytea NOT NULL,
    started_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    finished_at timestamptz,
    records bigint NOT NULL DEFAULT 0,
    created bigint NOT NULL DEFAULT 0,
    changed bigint NOT NULL DEFAULT 0,
    unchanged bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0
);
COMMENT ON COLUMN imports.digest IS 'of the file, of how it is read, and of who imports it';
COMMENT ON COLUMN imports.records IS 'records of the file that are done: a resumed import goes on behind them';

-- the import that a file goes on with
CREATE UNIQUE INDEX imports_digest_key ON imports (digest) WHERE finished_at IS NULL;

-- removal of what is kept no longer
CREATE INDEX imports_updated_at ON imports (updated_at);

CREATE TABLE import_rejects (
    import_id uuid NOT NULL REFERENCES imports ON DELETE CASCADE,
    line bigint NOT NULL,
    problem jsonb NOT NULL,
    PRIMARY KEY (import_id, line)
);
COMMENT ON COLUMN import_rejects.problem IS 'why, without any value of the row';
"""


def upgrade() -> None:
    """Create both tables."""
    op.execute(IMPORTS)

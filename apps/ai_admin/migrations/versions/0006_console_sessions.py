"""Sessions of the console."""

from alembic import op

revision = "0006"
down_revision = "0005"

# A session goes with the key that it was signed in by, and with its user. Of its token a digest alone is kept.
SESSIONS = """
CREATE TABLE console_sessions (
    digest bytea PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    key_id uuid NOT NULL REFERENCES api_keys ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT console_sessions_digest_is_sha256 CHECK (length(digest) = 32)
);

-- revoking a key ends its sessions
CREATE INDEX console_sessions_key_id ON console_sessions (key_id);

-- purge of a user takes them along
CREATE INDEX console_sessions_user_id ON console_sessions (user_id);

-- removal of those that are over
CREATE INDEX console_sessions_expires_at ON console_sessions (expires_at);
"""


def upgrade() -> None:
    """Create the sessions."""
    op.execute(SESSIONS)

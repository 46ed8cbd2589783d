"""Sessions of people whom the identity provider has signed in."""

from alembic import op

revision = "0009"
down_revision = "0008"

# Nothing is rewritten, and the table is small: a row a browser. While the old version serves, it ends the sessions
# that it does not know by asking for a sign-in.
IDENTITIES = """
ALTER TABLE console_sessions
    ALTER COLUMN key_id DROP NOT NULL,
    ADD COLUMN issuer text COLLATE "C",
    ADD COLUMN subject text COLLATE "C",
    ADD CONSTRAINT console_sessions_identity FOREIGN KEY (issuer, subject)
        REFERENCES identities MATCH FULL ON DELETE CASCADE,
    ADD CONSTRAINT console_sessions_rest_on_one CHECK (num_nonnulls(key_id, subject) = 1);

COMMENT ON COLUMN console_sessions.subject IS 'whom the provider vouched for; null: an API key signed in';

-- unbinding a subject ends its sessions
CREATE INDEX console_sessions_issuer_subject ON console_sessions (issuer, subject) WHERE subject IS NOT NULL;
"""


def upgrade() -> None:
    """Let a session rest on the binding of a subject in place of a key."""
    op.execute(IDENTITIES)

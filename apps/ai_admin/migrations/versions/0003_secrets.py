"""Credentials of users, and ciphertexts that tell by an index which key has sealed them."""

from alembic import op

revision = "0003"
down_revision = "0002"

# The id of the key, read from the ciphertext's header: ai_admin.vault.ciphertext. A function's result has the
# database's collation whatever is said in its body, so indexes on it, and queries that shall use them, say COLLATE "C".
KEY_ID = """
CREATE FUNCTION vault_key_id(ciphertext bytea) RETURNS text IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql
RETURN encode(substring(ciphertext FROM 4 FOR get_byte(ciphertext, 2)), 'escape');
"""

# Each version of a credential is a row. The one in force has no end; at most one has none.
USER_SECRETS = """
CREATE TABLE user_secrets (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    provider text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    last_four text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    created_by uuid,
    used_at timestamptz,
    ended_at timestamptz,
    CONSTRAINT user_secrets_version_key UNIQUE (user_id, name, version)
);
COMMENT ON COLUMN user_secrets.value IS 'sealed for its place: ai_admin.vault.ciphertext';
COMMENT ON COLUMN user_secrets.ended_at IS 'replaced or removed then, and kept for undo; null: in force';

-- the credentials of a user; at most one of a name is in force
CREATE UNIQUE INDEX user_secrets_in_force ON user_secrets (user_id, name) WHERE ended_at IS NULL;

-- removal of what is kept no longer
CREATE INDEX user_secrets_ended_at ON user_secrets (ended_at) WHERE ended_at IS NOT NULL;

-- vault rotate and vault status: what a key has sealed
CREATE INDEX user_secrets_vault_key ON user_secrets (vault_key_id(value) COLLATE "C", id);
"""

# What is there was kept in the clear, and for a day at most; a request that is sent again in the minute of the
# upgrade is done again.
IDEMPOTENCY_KEYS = """
TRUNCATE idempotency_keys;
COMMENT ON COLUMN idempotency_keys.body IS 'sealed for its place: ai_admin.vault.ciphertext';

-- vault rotate and vault status: what a key has sealed
CREATE INDEX idempotency_keys_vault_key ON idempotency_keys (vault_key_id(body) COLLATE "C", key_digest);
"""


def upgrade() -> None:
    """Create the credentials, and have kept answers sealed."""
    op.execute(KEY_ID)
    op.execute(USER_SECRETS)
    op.execute(IDEMPOTENCY_KEYS)

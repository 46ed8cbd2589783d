"""Keys that keep their id when they are rotated, ended keys that are still recognised, and lists of all keys."""

from alembic import op

revision = "0017"
down_revision = "0012"

# Columns come without a default, so nothing is rewritten. `replaces` is no longer written; a later revision drops it.
ROTATION = """
ALTER TABLE api_keys
    ADD COLUMN rotated_at timestamptz,
    ADD COLUMN previous_digest bytea,
    ADD COLUMN previous_expires_at timestamptz,
    ADD CONSTRAINT api_keys_previous_digest_is_sha256 CHECK (length(previous_digest) = 32);

COMMENT ON COLUMN api_keys.previous_digest IS
    'what the key was before its last rotation; it works until previous_expires_at';

-- the caller who still presents the key as it was before its last rotation
CREATE UNIQUE INDEX api_keys_previous_digest_key ON api_keys (previous_digest) WHERE previous_digest IS NOT NULL;
"""

# Rows leave api_keys when a key is revoked, so the old version, which knows no mark, lets no revoked key in.
# A foreign key to the user would make a revocation wait for a change of the user. A purge deletes these rows itself.
ENDED = """
CREATE TABLE ended_keys (
    digest bytea PRIMARY KEY,
    key_id uuid NOT NULL,
    user_id uuid NOT NULL,
    ended_at timestamptz NOT NULL,
    reason text COLLATE "C" NOT NULL,
    CONSTRAINT ended_keys_digest_is_sha256 CHECK (length(digest) = 32),
    CONSTRAINT ended_keys_reason CHECK (reason IN ('revoked', 'rotated'))
);

-- the oldest ended keys of a user are forgotten; purge of a user takes all of them along
CREATE INDEX ended_keys_user_id ON ended_keys (user_id, ended_at, digest);
"""

# A session ends with the key that it was begun with. Before this revision a key had one digest for all its life.
SESSIONS = """
ALTER TABLE console_sessions ADD COLUMN key_digest bytea;
UPDATE console_sessions SET key_digest = api_keys.digest FROM api_keys WHERE api_keys.id = console_sessions.key_id;
"""

# For GET /ai/admin/keys. A key without expiry sorts as the last to expire, one without use as the first to be used.
LISTS = {
    # sort=createdAt, createdAt[...]=
    "api_keys_created_at": "ON api_keys (created_at, id)",
    # sort=expiresAt, expiresAt[...]=, neverExpires=, state=
    "api_keys_expiry": "ON api_keys ((coalesce(expires_at, 'infinity'::timestamptz)), id)",
    # sort=lastUsedAt, lastUsedAt[...]=, neverUsed=
    "api_keys_last_use": "ON api_keys ((coalesce(last_used_at, '-infinity'::timestamptz)), id)",
    # scope=
    "api_keys_scopes": "ON api_keys USING gin (scopes) WITH (fastupdate = off)",
}


def upgrade() -> None:
    """Build the indexes of the lists without blocking writes, then add columns and a table.

    The indexes come first: a run that is cut off among them has changed nothing else, and starts again.
    """
    with op.get_context().autocommit_block():
        # Such a build waits for older transactions, and no transaction waits for it.
        op.execute("SET lock_timeout = 0")
        for name, index in LISTS.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} {index}")
        # The indexed expressions have statistics of their own.
        op.execute("ANALYZE api_keys")
        op.execute("SET lock_timeout = '5s'")
    op.execute(ROTATION)
    op.execute(ENDED)
    op.execute(SESSIONS)

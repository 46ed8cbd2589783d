"""Indexes for pages of many millions of users: what other orders sort by, a sparser sample, and times by block."""

from alembic import op

revision = "0008"
down_revision = "0007"

# These take the place of those of the same names, which serve until then. What is looked for by its beginning carries
# what the other orders sort by, so that it is sorted without a look into the table.
ANEW = {
    # unique tag among users not deleted, who are set apart by their id; tag=, tag[prefix]=, sort=tag
    "users_tag_key": """
CREATE UNIQUE INDEX CONCURRENTLY users_tag_key_new
    ON users (tag, (CASE WHEN status = 'deleted' THEN id END))
    INCLUDE (id, status, email, name_key, created_at, updated_at) NULLS NOT DISTINCT
""",
    # unique email among users not deleted; as it was, but younger than that of the tag: PostgreSQL looks into the older
    # first, and who has taken both is told of the tag
    "users_email_key": """
CREATE UNIQUE INDEX CONCURRENTLY users_email_key_new ON users (lower(email)) WHERE status <> 'deleted'
""",
    # email=, email[prefix]=, sort=email; many users have none, hence the id
    "users_email": """
CREATE INDEX CONCURRENTLY users_email_new
    ON users (lower(coalesce(email, '')), id) INCLUDE (status, email, tag, name_key, created_at, updated_at)
""",
    # name=, name[prefix]=, sort=name
    "users_name": """
CREATE INDEX CONCURRENTLY users_name_new
    ON users (name_key, id) INCLUDE (status, tag, email, created_at, updated_at)
""",
}
FURTHER = {
    # whether very many match q= or attributes[key]=value: on one row in 4096, see ai_admin.listing
    "users_words_sparse": """
CREATE INDEX CONCURRENTLY users_words_sparse ON users USING gin (words) WITH (fastupdate = off)
    WHERE get_byte(uuid_send(id), 15) & 63 = 0 AND get_byte(uuid_send(id), 14) & 63 = 0
""",
    "users_attributes_sparse": """
CREATE INDEX CONCURRENTLY users_attributes_sparse
    ON users USING gin (attributes jsonb_path_ops) WITH (fastupdate = off)
    WHERE get_byte(uuid_send(id), 15) & 63 = 0 AND get_byte(uuid_send(id), 14) & 63 = 0
""",
    # q= and attributes[key]=value by time of creation, where many match: the blocks in which the page can be; in a
    # form of its own, because the planner would ask it about other conditions too, where it costs more than it saves
    "users_created_blocks": """
CREATE INDEX CONCURRENTLY users_created_blocks
    ON users USING brin ((created_at AT TIME ZONE 'UTC')) WITH (pages_per_range = 32, autosummarize = on)
""",
}


def upgrade() -> None:
    """Build each beside the table's work. A run that was cut off begins anew, and drops what it had left half built."""
    with op.get_context().autocommit_block():
        # Built like this, an index waits for older transactions, and nobody waits for it.
        op.execute("SET lock_timeout = 0")
        for name, index in ANEW.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_new")
            op.execute(index)
        for name, index in FURTHER.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(index)
        # What the blocks are over is an expression, which has statistics of its own.
        op.execute("ANALYZE users")
        op.execute("SET lock_timeout = '5s'")
    for name in ANEW:
        op.execute(f"DROP INDEX {name}")
        op.execute(f"ALTER INDEX {name}_new RENAME TO {name}")

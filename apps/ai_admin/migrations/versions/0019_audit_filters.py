"""Indexes for the events of an API key, and of a request."""

from alembic import op

revision = "0019"
down_revision = "0018"

INDEXES = {
    # key=
    "audit_events_key": "CREATE INDEX CONCURRENTLY audit_events_key ON audit_events (key_id, at, id)",
    # requestId=
    "audit_events_request": "CREATE INDEX CONCURRENTLY audit_events_request ON audit_events (request_id, at, id)",
}


def upgrade() -> None:
    """Build each beside the work of the service. A run that was cut off begins anew, and drops what was half built."""
    with op.get_context().autocommit_block():
        # Built like this, an index waits for older transactions, and nobody waits for it.
        op.execute("SET lock_timeout = 0")
        for name, index in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(index)
        op.execute("SET lock_timeout = '5s'")

"""An index of the credentials whose ciphertext is not bound to user, name and provider yet."""

from alembic import op

revision = "0020"
down_revision = "0019"

# Format 1 is bound to table, column and row alone (ai_admin.vault.ciphertext). The index has such rows only, so it is
# empty once they have been sealed anew.
UNBOUND = """
CREATE INDEX CONCURRENTLY user_secrets_unbound ON user_secrets (vault_key_id(value) COLLATE "C", id)
    WHERE substring(value FROM 1 FOR 1) = '\\x01'
"""


def upgrade() -> None:
    """Build it beside the table's work. A run that was cut off begins anew, and drops what it had left half built."""
    with op.get_context().autocommit_block():
        # Built like this, an index waits for older transactions, and nobody waits for it.
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS user_secrets_unbound")
        op.execute(UNBOUND)
        op.execute("SET lock_timeout = '5s'")

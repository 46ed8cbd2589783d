"""Keys by when they end."""

from alembic import op

revision = "0007"
down_revision = "0006"

BY_EXPIRY = """
-- the console's overview: keys that end within a month
CREATE INDEX api_keys_expires_at ON api_keys (expires_at) WHERE expires_at IS NOT NULL;
"""


def upgrade() -> None:
    """Create the index. There are few keys beside users, and none is made meanwhile for longer than that takes."""
    op.execute(BY_EXPIRY)

"""How a subject was bound: by which email, or by an operator."""

from alembic import op

revision = "0004"
down_revision = "0003"

# Of the bindings that are there it is not known; an empty address is nobody's.
EMAIL = """
ALTER TABLE identities ADD COLUMN email text COLLATE "C" DEFAULT '';
ALTER TABLE identities ALTER COLUMN email DROP DEFAULT;
COMMENT ON COLUMN identities.email IS 'the verified address that bound it, in lower case; null: an operator did';
"""


def upgrade() -> None:
    """Have bindings say what they rest on."""
    op.execute(EMAIL)

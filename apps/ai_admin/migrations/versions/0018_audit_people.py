"""Fingerprints of the keys that personal values in the audit log are sealed with, for whoever verifies the log."""

from alembic import op

revision = "0018"
down_revision = "0017"

# A role that may read this, and not the users, verifies the log without being able to open anybody's values.
AUDIT_PEOPLE = """
CREATE VIEW audit_people AS
SELECT id, substring(sha256('ai-admin audit key 1'::bytea || audit_key) FROM 1 FOR 16) AS fingerprint
FROM users;
COMMENT ON VIEW audit_people IS 'ai-admin audit verify: which key each person has now; ai_admin.audit.personal';
"""


def upgrade() -> None:
    """Create the view."""
    op.execute(AUDIT_PEOPLE)

"""Users, and the answers kept for Idempotency-Key."""

from alembic import op

revision = "0001"
down_revision = None

# Text that is compared or sorted is COLLATE "C": the order is the same on every server and never changes
# under an index, and a prefix is a range.
USERS = """
CREATE TABLE users (
    id uuid PRIMARY KEY,
    tag text COLLATE "C" NOT NULL,
    email text COLLATE "C",
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    models text[] NOT NULL,
    attributes jsonb NOT NULL,
    words tsvector NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT users_kind_known CHECK (kind IN ('human', 'service')),
    CONSTRAINT users_role_known CHECK (role IN ('owner', 'admin', 'auditor', 'member')),
    CONSTRAINT users_status_known CHECK (status IN ('active', 'suspended', 'deleted')),
    CONSTRAINT users_deleted_at_with_status CHECK ((status = 'deleted') = (deleted_at IS NOT NULL)),
    CONSTRAINT users_email_of_human CHECK (kind <> 'human' OR email IS NOT NULL)
);
COMMENT ON COLUMN users.name_key IS 'the name folded for sorting and prefixes: ai_admin.folding.fold';
COMMENT ON COLUMN users.words IS 'the words of tag, email and name, folded: ai_admin.folding.words';
"""

# Each index has its request. A unique index also serves what it sorts first by; its last column sets
# deleted users (and users without email) apart by their id, so that they never collide.
INDEXES = """
-- unique tag among users not deleted; tag=, tag[prefix]=, sort=tag
CREATE UNIQUE INDEX users_tag_key
    ON users (tag, (CASE WHEN status = 'deleted' THEN id END)) NULLS NOT DISTINCT;

-- unique email among users not deleted; email=, email[prefix]=, sort=email
CREATE UNIQUE INDEX users_email_key
    ON users ((lower(coalesce(email, ''))), (CASE WHEN status = 'deleted' OR email IS NULL THEN id END))
    NULLS NOT DISTINCT;

-- name=, name[prefix]=, sort=name
CREATE INDEX users_name ON users (name_key, id);

-- createdAt[...]=, sort=createdAt
CREATE INDEX users_created_at ON users (created_at, id);

-- updatedAt[...]=, sort=updatedAt
CREATE INDEX users_updated_at ON users (updated_at, id);

-- kind=, role=, status= in any combination that is rare (the list names all three in every query)
CREATE INDEX users_facets ON users (status, role, kind);

-- q=
CREATE INDEX users_words ON users USING gin (words) WITH (fastupdate = off);

-- attributes[key]=value
CREATE INDEX users_attributes ON users USING gin (attributes jsonb_path_ops) WITH (fastupdate = off);
"""

IDEMPOTENCY_KEYS = """
CREATE TABLE idempotency_keys (
    key_digest bytea PRIMARY KEY,
    request_digest bytea NOT NULL,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    status smallint NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    expires_at timestamptz NOT NULL
);

-- removal of expired keys
CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at);

-- purge of a user takes the kept answers about them along
CREATE INDEX idempotency_keys_user_id ON idempotency_keys (user_id);
"""


def upgrade() -> None:
    """Create both tables."""
    op.execute(USERS)
    op.execute(INDEXES)
    op.execute(IDEMPOTENCY_KEYS)

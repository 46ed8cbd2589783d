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
    created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    deleted_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT users_kind_known CHECK (kind IN ('human', 'service')),
    CONSTRAINT users_role_known CHECK (role IN ('owner', 'admin', 'auditor', 'member')),
    CONSTRAINT users_status_known CHECK (status IN ('active', 'suspended', 'deleted')),
    CONSTRAINT users_deleted_at_with_status CHECK ((status = 'deleted') = (deleted_at IS NOT NULL)),
    CONSTRAINT users_created_before_updated CHECK (created_at <= updated_at),
    CONSTRAINT users_email_of_human CHECK (kind <> 'human' OR email IS NOT NULL)
);
COMMENT ON COLUMN users.name_key IS 'the name folded for sorting and prefixes: ai_admin.folding.sort_key';
COMMENT ON COLUMN users.words IS 'the words of tag, email and name, folded: ai_admin.folding.words';
"""

# Each index has its request. Included columns let a range be counted in the index alone.
INDEXES = """
-- unique tag among users not deleted, who are set apart by their id; tag=, tag[prefix]=, sort=tag
CREATE UNIQUE INDEX users_tag_key
    ON users (tag, (CASE WHEN status = 'deleted' THEN id END)) INCLUDE (status) NULLS NOT DISTINCT;

-- unique email among users not deleted
CREATE UNIQUE INDEX users_email_key ON users (lower(email)) WHERE status <> 'deleted';

-- email=, email[prefix]=, sort=email; many users have none, hence the id
CREATE INDEX users_email ON users (lower(coalesce(email, '')), id);

-- name=, name[prefix]=, sort=name
CREATE INDEX users_name ON users (name_key, id) INCLUDE (status);

-- createdAt[...]=, sort=createdAt
CREATE INDEX users_created_at ON users (created_at, id) INCLUDE (status);

-- updatedAt[...]=, sort=updatedAt
CREATE INDEX users_updated_at ON users (updated_at, id) INCLUDE (status);

-- kind=, role=, status= in any combination that is rare (the list names all three in every query)
CREATE INDEX users_facets ON users (status, role, kind);

-- q=
CREATE INDEX users_words ON users USING gin (words) WITH (fastupdate = off);

-- attributes[key]=value
CREATE INDEX users_attributes ON users USING gin (attributes jsonb_path_ops) WITH (fastupdate = off);

-- whether very many match q= or attributes[key]=value: on one row in 64, see ai_admin.listing
CREATE INDEX users_words_sample ON users USING gin (words) WITH (fastupdate = off)
    WHERE get_byte(uuid_send(id), 15) & 63 = 0;
CREATE INDEX users_attributes_sample ON users USING gin (attributes jsonb_path_ops) WITH (fastupdate = off)
    WHERE get_byte(uuid_send(id), 15) & 63 = 0;
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

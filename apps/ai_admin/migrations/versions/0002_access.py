"""API keys of users, subjects of identity providers, and the audit log with its seals."""

from alembic import op

revision = "0002"
down_revision = "0001"

# The column comes without a default, and so without rewriting the table; the default is for rows to come.
AUDIT_KEY = """
ALTER TABLE users ADD COLUMN audit_key bytea;
ALTER TABLE users ALTER COLUMN audit_key SET DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
COMMENT ON COLUMN users.audit_key IS
    'seals what the audit log holds of this person; purge destroys it with the row: ai_admin.audit.events';
"""

API_KEYS = """
CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    digest bytea NOT NULL,
    name text NOT NULL,
    last_four text NOT NULL,
    scopes text[],
    models text[],
    created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    created_by uuid,
    expires_at timestamptz,
    last_used_at timestamptz,
    replaces uuid,
    CONSTRAINT api_keys_digest_key UNIQUE (digest),
    CONSTRAINT api_keys_digest_is_sha256 CHECK (length(digest) = 32)
);
COMMENT ON COLUMN api_keys.scopes IS 'null: all that the user''s role gives';
COMMENT ON COLUMN api_keys.models IS 'null: all that the user may call';

-- the keys of a user; purge of a user takes them along
CREATE INDEX api_keys_user_id ON api_keys (user_id, id);
"""

IDENTITIES = """
CREATE TABLE identities (
    issuer text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    bound_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (issuer, subject)
);

-- purge of a user takes the subjects along; whether an email has been bound before
CREATE INDEX identities_user_id ON identities (user_id);
"""

# No foreign keys: an event outlives whom it is about.
AUDIT = """
CREATE TABLE audit_events (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_id uuid,
    key_id uuid,
    action text COLLATE "C" NOT NULL,
    target_id uuid,
    changes jsonb NOT NULL,
    personal bytea,
    request_id text NOT NULL,
    source bytea
);
COMMENT ON COLUMN audit_events.personal IS 'values of the target''s person, under the audit_key of the target';
COMMENT ON COLUMN audit_events.source IS 'address of the caller, under the audit_key of the actor where there is one';

-- the log in its order; at[...]=
CREATE INDEX audit_events_at ON audit_events (at, id);

-- actor=
CREATE INDEX audit_events_actor ON audit_events (actor_id, at, id);

-- target=
CREATE INDEX audit_events_target ON audit_events (target_id, at, id);

-- action=
CREATE INDEX audit_events_action ON audit_events (action, at, id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Events that no seal covers yet. A row comes with its event, in the same transaction, and goes with the seal:
-- what a transaction that ends late has written is still here for the next seal, whatever its place in the order.
CREATE TABLE audit_unsealed (
    event_id uuid NOT NULL
);

CREATE TABLE audit_seals (
    number bigint PRIMARY KEY,
    previous bytea NOT NULL,
    root bytea NOT NULL,
    events uuid[] NOT NULL,
    leaves bytea NOT NULL,
    sealed_at timestamptz NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    signature bytea NOT NULL
);

-- the seal of an event
CREATE INDEX audit_seals_events ON audit_seals USING gin (events) WITH (fastupdate = off);

CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_seals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


def upgrade() -> None:
    """Add to a live table what needs no rewrite, and create the new tables."""
    op.execute(AUDIT_KEY)
    op.execute(API_KEYS)
    op.execute(IDENTITIES)
    op.execute(AUDIT)

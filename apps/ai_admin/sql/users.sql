-- Queries on the users of the directory. Columns are named as the API names them, so that a row is an answer.

-- name: insert
INSERT INTO users (id, tag, email, name, name_key, kind, role, status, models, attributes, words)
VALUES (%(id)s, %(tag)s, %(email)s, %(name)s, %(name_key)s, %(kind)s, %(role)s, %(status)s,
        %(models)s, %(attributes)s, array_to_tsvector(%(words)s))
RETURNING {columns}, audit_key;

-- name: get
SELECT {columns}
FROM users
WHERE id = %(id)s;

-- name: get_for_update
SELECT {columns}, audit_key
FROM users
WHERE id = %(id)s
FOR UPDATE;

-- name: update
UPDATE users
SET tag = %(tag)s,
    email = %(email)s,
    name = %(name)s,
    name_key = %(name_key)s,
    kind = %(kind)s,
    role = %(role)s,
    status = %(status)s,
    models = %(models)s,
    attributes = %(attributes)s,
    words = array_to_tsvector(%(words)s),
    updated_at = GREATEST(statement_timestamp(), updated_at + interval '1 microsecond'),
    deleted_at = NULL,
    version = version + 1
WHERE id = %(id)s
RETURNING {columns};

-- name: mark_deleted
UPDATE users
SET status = 'deleted',
    updated_at = GREATEST(statement_timestamp(), updated_at + interval '1 microsecond'),
    deleted_at = GREATEST(statement_timestamp(), updated_at + interval '1 microsecond'),
    version = version + 1
WHERE id = %(id)s;

-- name: purge
DELETE FROM users
WHERE id = %(id)s;

-- name: purge_ended_keys
-- After the user, whose deletion waits for a revocation that is under way.
DELETE FROM ended_keys
WHERE user_id = %(id)s;

-- name: lock_owners
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: another_owner
SELECT EXISTS (
    SELECT
    FROM users
    WHERE role = 'owner'
      AND status = 'active'
      AND kind IN ('human', 'service')
      AND id <> %(id)s
) AS exists;

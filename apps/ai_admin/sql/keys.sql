-- API keys. A key is found by its digest; nothing here gives a usable one.

-- name: authenticate
SELECT users.id AS user_id, users.tag, users.kind, users.role, users.status, users.models, users.audit_key,
       api_keys.id AS key_id, api_keys.scopes, api_keys.models AS key_models, api_keys.expires_at,
       api_keys.last_used_at < now() - interval '1 minute' OR api_keys.last_used_at IS NULL AS is_use_news
FROM api_keys
JOIN users ON users.id = api_keys.user_id
WHERE api_keys.digest = %(digest)s;

-- name: note_use
-- Once a minute a key, whatever the number of requests and processes.
UPDATE api_keys
SET last_used_at = now()
WHERE id = %(id)s
  AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute');

-- name: insert
INSERT INTO api_keys (id, user_id, digest, name, last_four, scopes, models, created_by, expires_at, replaces)
VALUES (%(id)s, %(user_id)s, %(digest)s, %(name)s, %(last_four)s, %(scopes)s, %(models)s, %(created_by)s,
        %(expires_at)s, %(replaces)s)
RETURNING {columns};

-- name: list
SELECT {columns}
FROM api_keys
WHERE user_id = %(user_id)s
ORDER BY id;

-- name: get_for_update
SELECT {columns}
FROM api_keys
WHERE user_id = %(user_id)s
  AND id = %(id)s
FOR UPDATE;

-- name: update
UPDATE api_keys
SET name = %(name)s,
    scopes = %(scopes)s,
    models = %(models)s,
    expires_at = %(expires_at)s
WHERE id = %(id)s
RETURNING {columns};

-- name: delete
DELETE FROM api_keys
WHERE id = %(id)s;

-- name: any
SELECT EXISTS (SELECT FROM api_keys) AS exist;

-- name: lock_bootstrap
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: standing
-- The clock rather than now(): the transaction may have waited for a lock.
SELECT users.status, users.role, users.kind, api_keys.id AS key_id, api_keys.scopes, api_keys.models AS key_models,
       api_keys.expires_at, coalesce(api_keys.expires_at <= clock_timestamp(), false) AS is_over,
       EXISTS (
           SELECT
           FROM identities
           WHERE identities.user_id = users.id
             AND (identities.issuer, identities.subject) = (%(issuer)s, %(subject)s)
       ) AS is_bound
FROM users
LEFT JOIN api_keys ON api_keys.user_id = users.id AND api_keys.id = %(key_id)s
WHERE users.id = %(actor_id)s;

-- name: scopes
SELECT DISTINCT scopes
FROM api_keys
WHERE user_id = %(user_id)s;

-- name: scopes_of_keys
SELECT id, scopes
FROM api_keys
WHERE user_id = %(user_id)s
ORDER BY id
FOR UPDATE;

-- name: set_scopes
UPDATE api_keys
SET scopes = %(scopes)s
WHERE id = %(id)s;

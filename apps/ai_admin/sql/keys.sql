-- API keys. A key is found by its digest; nothing here gives a usable one.

-- name: authenticate
-- One index lookup for a key as it is now. A key as it was before its last rotation, and one that has ended, take a
-- lookup more each: no digest is in two of the branches, so the first row that is found is the only one.
SELECT users.id AS user_id, users.tag, users.kind, users.role, users.status, users.models, users.audit_key,
       found.digest AS key_digest, found.key_id, found.scopes, found.key_models, found.key_expires_at,
       found.expires_at, found.ended_by, found.is_use_news,
       coalesce(found.expires_at <= clock_timestamp(), false) AS is_over
FROM (
    SELECT digest, id AS key_id, user_id, scopes, models AS key_models, expires_at AS key_expires_at, expires_at,
           'expired' AS ended_by,
           last_used_at < now() - interval '1 minute' OR last_used_at IS NULL AS is_use_news
    FROM api_keys
    WHERE digest = %(digest)s
    UNION ALL
    SELECT previous_digest, id, user_id, scopes, models, expires_at, LEAST(previous_expires_at, expires_at),
           'rotated', last_used_at < now() - interval '1 minute' OR last_used_at IS NULL
    FROM api_keys
    WHERE previous_digest = %(digest)s
    UNION ALL
    SELECT digest, key_id, user_id, '{}', NULL, ended_at, ended_at, reason, false
    FROM ended_keys
    WHERE digest = %(digest)s
    LIMIT 1
) AS found
JOIN users ON users.id = found.user_id;

-- name: note_use
-- Once a minute a key, whatever the number of requests and processes.
UPDATE api_keys
SET last_used_at = now()
WHERE id = %(id)s
  AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute');

-- name: insert
INSERT INTO api_keys (id, user_id, digest, name, last_four, scopes, models, created_by, expires_at)
VALUES (%(id)s, %(user_id)s, %(digest)s, %(name)s, %(last_four)s, %(scopes)s, %(models)s, %(created_by)s,
        %(expires_at)s)
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

-- name: end_previous
-- The key as it was before its last rotation, if it was rotated, for good.
INSERT INTO ended_keys (digest, key_id, user_id, ended_at, reason)
SELECT previous_digest, id, user_id, LEAST(previous_expires_at, clock_timestamp()),
       CASE WHEN previous_expires_at <= clock_timestamp() THEN 'rotated' ELSE %(reason)s END
FROM api_keys
WHERE id = %(id)s
  AND previous_digest IS NOT NULL;

-- name: rotate
-- What the key was works until the overlap ends, but no longer than it would have without the rotation.
UPDATE api_keys
SET digest = %(digest)s,
    last_four = %(last_four)s,
    expires_at = %(expires_at)s,
    rotated_at = clock.now,
    previous_digest = digest,
    previous_expires_at = LEAST(clock.now + %(overlap)s, expires_at)
FROM (SELECT clock_timestamp() AS now) AS clock
WHERE id = %(id)s
RETURNING {columns};

-- name: revoke
-- The digests stay for a while, so that the holder of the key learns what has happened.
WITH revoked AS (
    DELETE FROM api_keys
    WHERE id = %(id)s
    RETURNING id, user_id, digest
)
INSERT INTO ended_keys (digest, key_id, user_id, ended_at, reason)
SELECT digest, id, user_id, clock_timestamp(), 'revoked'
FROM revoked;

-- name: find_by_text
-- The key that has this digest, or had it; it is live while it is in force, works as what it was before a rotation, or
-- could be prolonged.
SELECT id AS "keyId", user_id AS "userId", expires_at AS "endedAt", true AS "isLive"
FROM api_keys
WHERE digest = %(digest)s
UNION ALL
SELECT id, user_id, previous_expires_at, previous_expires_at > clock_timestamp()
FROM api_keys
WHERE previous_digest = %(digest)s
UNION ALL
SELECT key_id, user_id, ended_at, false
FROM ended_keys
WHERE digest = %(digest)s;

-- name: lock
SELECT
FROM api_keys
WHERE id = %(id)s
FOR UPDATE;

-- name: tags
SELECT id, tag
FROM users
WHERE id = ANY(%(ids)s);

-- name: forget_ended
-- The oldest of a user's ended keys, beyond so many.
DELETE FROM ended_keys
WHERE digest IN (
    SELECT digest
    FROM ended_keys
    WHERE user_id = %(user_id)s
    ORDER BY ended_at DESC, digest DESC
    OFFSET %(most)s
);

-- name: own_end
-- When the key that the caller presented stops working; null is never.
SELECT CASE WHEN digest = %(key_digest)s THEN expires_at ELSE LEAST(previous_expires_at, expires_at) END AS ends_at
FROM api_keys
WHERE id = %(key_id)s;

-- name: works
-- Whether a key is still good: neither rotated nor revoked nor expired, and its user not deleted.
SELECT EXISTS (
    SELECT
    FROM api_keys
    JOIN users ON users.id = api_keys.user_id
    WHERE api_keys.digest = %(digest)s
      AND coalesce(api_keys.expires_at > clock_timestamp(), true)
      AND users.status <> 'deleted'
) AS works;

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
LEFT JOIN api_keys ON api_keys.user_id = users.id
                  AND api_keys.id = %(key_id)s
                  AND (
                      api_keys.digest = %(key_digest)s
                      OR (api_keys.previous_digest = %(key_digest)s
                          AND api_keys.previous_expires_at > clock_timestamp())
                  )
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

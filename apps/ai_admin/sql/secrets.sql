-- Credentials of users. Each version is a row; the one in force has no end. Values are sealed, and never listed.

-- name: list
SELECT {columns}
FROM user_secrets AS secret
WHERE user_id = %(user_id)s
  AND ended_at IS NULL
ORDER BY name;

-- name: get
SELECT {columns}
FROM user_secrets AS secret
WHERE user_id = %(user_id)s
  AND name = %(name)s
  AND ended_at IS NULL;

-- name: versions
SELECT version, provider, last_four AS "lastFour", created_at AS "createdAt", created_by AS "createdBy",
       used_at AS "usedAt", ended_at AS "endedAt"
FROM user_secrets
WHERE user_id = %(user_id)s
  AND name = %(name)s
  AND (ended_at IS NULL OR ended_at > now() - %(history)s)
ORDER BY version DESC;

-- name: in_force
SELECT id, version, provider, value
FROM user_secrets
WHERE user_id = %(user_id)s
  AND name = %(name)s
  AND ended_at IS NULL;

-- name: version
-- Over age it is not found, whether or not it has been removed.
SELECT id, version, provider, value
FROM user_secrets
WHERE user_id = %(user_id)s
  AND name = %(name)s
  AND version = %(version)s
  AND (ended_at IS NULL OR ended_at > now() - %(history)s);

-- name: count
SELECT count(*) AS number
FROM user_secrets
WHERE user_id = %(user_id)s
  AND ended_at IS NULL;

-- name: insert
INSERT INTO user_secrets (id, user_id, name, version, provider, value, last_four, created_by)
SELECT %(id)s, %(user_id)s, %(name)s, coalesce(max(version), 0) + 1, %(provider)s, %(value)s, %(last_four)s,
       %(created_by)s
FROM user_secrets
WHERE user_id = %(user_id)s
  AND name = %(name)s
RETURNING version;

-- name: end
UPDATE user_secrets
SET ended_at = statement_timestamp()
WHERE user_id = %(user_id)s
  AND name = %(name)s
  AND ended_at IS NULL
RETURNING version, provider;

-- name: of_user
-- What a reveal needs, in one look: the user, and the credential where there is one.
SELECT users.status, secret.id, secret.version, secret.provider, secret.value
FROM users
LEFT JOIN user_secrets AS secret
       ON secret.user_id = users.id
      AND secret.name = %(name)s
      AND secret.ended_at IS NULL
WHERE users.id = %(user_id)s;

-- name: note_use
-- Once a minute a credential, whatever the number of reveals; a row that is being changed is left alone.
UPDATE user_secrets
SET used_at = now()
WHERE id = (
    SELECT id
    FROM user_secrets
    WHERE id = %(id)s
      AND (used_at IS NULL OR used_at < now() - interval '1 minute')
    FOR UPDATE SKIP LOCKED
);

-- name: forget_over_age
-- A few at a time with each new version, so that the table stays small without a job of its own.
DELETE FROM user_secrets
WHERE id IN (
    SELECT id
    FROM user_secrets
    WHERE ended_at <= now() - %(history)s
    ORDER BY ended_at
    LIMIT 20
    FOR UPDATE SKIP LOCKED
);

-- name: forget_beyond
-- However often it is replaced within the time that versions are kept for.
DELETE FROM user_secrets
WHERE user_id = %(user_id)s
  AND name = %(name)s
  AND version <= %(version)s - %(most)s
  AND ended_at IS NOT NULL;

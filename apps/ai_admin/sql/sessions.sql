-- Sessions of the console. A session is found by the digest of its token; nothing here gives a usable one.

-- name: authenticate
-- What it rests on must be there still: the key as it was presented, or the subject of today's issuer that is bound to
-- this user. One that is over is found until it is forgotten, so that the log can say whose it was.
SELECT users.id AS user_id, users.tag, users.kind, users.role, users.status, users.models, users.audit_key,
       session.key_digest, api_keys.id AS key_id, api_keys.scopes, api_keys.models AS key_models,
       api_keys.expires_at AS key_expires_at,
       CASE
           WHEN api_keys.digest = session.key_digest THEN api_keys.expires_at
           ELSE LEAST(api_keys.previous_expires_at, api_keys.expires_at)
       END AS expires_at,
       identities.issuer, identities.subject,
       session.expires_at < LEAST(session.created_at + %(longest)s, now() + %(idle)s - interval '1 minute')
           AS is_use_news,
       session.expires_at <= now() AS is_over,
       api_keys.id IS NOT NULL OR identities.subject IS NOT NULL AS rests_on_any
FROM console_sessions AS session
JOIN users ON users.id = session.user_id
LEFT JOIN api_keys ON api_keys.id = session.key_id
                  AND (
                      api_keys.digest = session.key_digest
                      OR (api_keys.previous_digest = session.key_digest
                          AND api_keys.previous_expires_at > clock_timestamp())
                  )
LEFT JOIN identities ON identities.issuer = session.issuer
                    AND identities.subject = session.subject
                    AND identities.user_id = session.user_id
                    AND identities.issuer = %(issuer)s
WHERE session.digest = %(digest)s;

-- name: note_use
-- Once a minute a session; never beyond the longest time that one may last, and not where it has ended meanwhile.
UPDATE console_sessions
SET expires_at = LEAST(created_at + %(longest)s, now() + %(idle)s)
WHERE digest = %(digest)s
  AND expires_at > now();

-- name: insert
-- None, where the key has been revoked or rotated meanwhile.
INSERT INTO console_sessions (digest, user_id, key_id, key_digest, expires_at)
SELECT %(digest)s, user_id, id, %(key_digest)s, now() + %(idle)s
FROM api_keys
WHERE id = %(key_id)s
  AND user_id = %(user_id)s
  AND (digest = %(key_digest)s OR (previous_digest = %(key_digest)s AND previous_expires_at > now()))
FOR KEY SHARE;

-- name: insert_of_identity
-- None, where the subject has been unbound meanwhile.
INSERT INTO console_sessions (digest, user_id, issuer, subject, expires_at)
SELECT %(digest)s, user_id, issuer, subject, now() + %(idle)s
FROM identities
WHERE issuer = %(issuer)s
  AND subject = %(subject)s
  AND user_id = %(user_id)s
FOR KEY SHARE;

-- name: lock_user
-- None, where the user has been suspended or deleted meanwhile.
SELECT id
FROM users
WHERE id = %(user_id)s
  AND status = 'active'
FOR NO KEY UPDATE;

-- name: end_oldest
-- The user keeps the new session and the latest others.
DELETE FROM console_sessions
WHERE user_id = %(user_id)s
  AND digest NOT IN (
      SELECT digest
      FROM console_sessions
      WHERE user_id = %(user_id)s
        AND expires_at > now()
      ORDER BY digest = %(digest)s DESC, created_at DESC
      LIMIT %(most)s
  )
RETURNING user_id, key_id, issuer, subject, expires_at <= now() AS is_over;

-- name: end_of_user
-- The row stays, so that a later request with the session is known to be its user's.
UPDATE console_sessions
SET expires_at = now()
WHERE user_id = %(user_id)s
  AND expires_at > now()
RETURNING user_id, key_id, issuer, subject;

-- name: end_of_key
UPDATE console_sessions
SET expires_at = now()
WHERE key_id = %(key_id)s
  AND expires_at > now()
RETURNING user_id, key_id, issuer, subject;

-- name: end_of_former_values
UPDATE console_sessions AS session
SET expires_at = now()
WHERE key_id = %(key_id)s
  AND expires_at > now()
  AND NOT EXISTS (
      SELECT
      FROM api_keys
      WHERE id = session.key_id
        AND (digest = session.key_digest
             OR (previous_digest = session.key_digest AND previous_expires_at > clock_timestamp()))
  )
RETURNING user_id, key_id, issuer, subject;

-- name: delete
DELETE FROM console_sessions
WHERE digest = %(digest)s
RETURNING user_id, key_id, issuer, subject, expires_at <= now() AS is_over;

-- name: forget
-- A few with each new session, so that the table stays small without a job of its own.
DELETE FROM console_sessions
WHERE digest IN (
    SELECT digest
    FROM console_sessions
    WHERE expires_at <= now()
    ORDER BY expires_at
    LIMIT 20
    FOR UPDATE SKIP LOCKED
);

-- Answers kept for Idempotency-Key. The key itself is stored as its digest alone.

-- name: claim
-- One transaction at a time works under a key; the lock ends with the transaction, also after a crash.
SELECT pg_try_advisory_xact_lock(%(lock)s) AS claimed;

-- name: find
SELECT request_digest, status, headers, body
FROM idempotency_keys
WHERE key_digest = %(key_digest)s
  AND expires_at > now();

-- name: find_erased
SELECT
FROM erased_answers
WHERE digest = ANY(%(digests)s)
  AND expires_at > now();

-- name: take_of_user
DELETE FROM idempotency_keys
WHERE user_id = %(user_id)s
RETURNING key_digest, expires_at;

-- name: remember_erased
INSERT INTO erased_answers (digest, expires_at)
VALUES (%(digest)s, %(expires_at)s)
ON CONFLICT (digest) DO UPDATE
SET expires_at = EXCLUDED.expires_at;

-- name: store
INSERT INTO idempotency_keys (key_digest, request_digest, user_id, status, headers, body, expires_at)
VALUES (%(key_digest)s, %(request_digest)s, %(user_id)s, %(status)s, %(headers)s, %(body)s,
        now() + interval '24 hours')
ON CONFLICT (key_digest) DO UPDATE
SET request_digest = EXCLUDED.request_digest,
    user_id = EXCLUDED.user_id,
    status = EXCLUDED.status,
    headers = EXCLUDED.headers,
    body = EXCLUDED.body,
    expires_at = EXCLUDED.expires_at;

-- name: forget_expired
-- A few at a time with each new key, so that the tables stay small without a job of their own.
WITH erased AS (
    DELETE FROM erased_answers
    WHERE digest IN (
        SELECT digest
        FROM erased_answers
        WHERE expires_at <= now()
        ORDER BY expires_at
        LIMIT 20
        FOR UPDATE SKIP LOCKED
    )
)
DELETE FROM idempotency_keys
WHERE key_digest IN (
    SELECT key_digest
    FROM idempotency_keys
    WHERE expires_at <= now()
    ORDER BY expires_at
    LIMIT 20
    FOR UPDATE SKIP LOCKED
);

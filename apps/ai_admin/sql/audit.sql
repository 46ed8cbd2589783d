-- The audit log. Rows are added and never changed; triggers refuse the rest.

-- name: insert
WITH event AS (
    INSERT INTO audit_events (id, actor_id, key_id, action, target_id, changes, personal, request_id, source)
    VALUES (%(id)s, %(actor_id)s, %(key_id)s, %(action)s, %(target_id)s, %(changes)s, %(personal)s, %(request_id)s,
            %(source)s)
    RETURNING id
)
INSERT INTO audit_unsealed (event_id)
SELECT id
FROM event;

-- name: make_audit_key
-- For users who were there before the log was.
UPDATE users
SET audit_key = DEFAULT
WHERE id = %(id)s
  AND audit_key IS NULL
RETURNING audit_key;

-- name: audit_keys
SELECT id, audit_key
FROM users
WHERE id = ANY(%(ids)s);

-- name: sealed
SELECT number, events
FROM audit_seals
WHERE events && %(ids)s::uuid[];

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

-- name: insert_and_read_standing
-- The event of a change, and how its actor stands: read at this moment, after all that the change has waited for.
WITH event AS (
    INSERT INTO audit_events (id, actor_id, key_id, action, target_id, changes, personal, request_id, source)
    VALUES (%(id)s, %(actor_id)s, %(key_id)s, %(action)s, %(target_id)s, %(changes)s, %(personal)s, %(request_id)s,
            %(source)s)
    RETURNING id
),
unsealed AS (
    INSERT INTO audit_unsealed (event_id)
    SELECT id
    FROM event
)
{standing};

-- name: copy
COPY audit_events (id, actor_id, key_id, action, target_id, changes, personal, request_id, source)
FROM STDIN;

-- name: copy_unsealed
COPY audit_unsealed (event_id)
FROM STDIN;

-- name: make_audit_key
-- For users who were there before the log was.
UPDATE users
SET audit_key = DEFAULT
WHERE id = %(id)s
  AND audit_key IS NULL;

-- name: audit_keys
SELECT id, audit_key
FROM users
WHERE id = ANY(%(ids)s);

-- name: by_index
-- For the transaction: the planner does not count what unpacking an array takes, and with some hundred seals would
-- rather unpack them all.
SET LOCAL enable_seqscan = off;

-- name: sealed
SELECT event_id, seal.number
FROM unnest(%(ids)s::uuid[]) AS event_id
JOIN audit_seals AS seal ON seal.events @> ARRAY[event_id];

-- Seals over the audit log. {event} and {seal} are the columns of each, as ai_admin.audit.sealing has them.

-- name: try_lock
-- One sealer at a time, until its transaction ends. Nothing that writes events takes this lock.
SELECT pg_try_advisory_xact_lock(%(lock)s) AS locked;

-- name: take
-- Off the queue, whatever comes first there, and here in the order of the ids. A row whose event is gone stays.
WITH taken AS (
    SELECT waiting.ctid AS place, waiting.event_id
    FROM audit_unsealed AS waiting
    JOIN audit_events AS event ON event.id = waiting.event_id
    LIMIT %(most)s
), removed AS (
    DELETE FROM audit_unsealed
    WHERE ctid = ANY(ARRAY(SELECT place FROM taken))
)
SELECT {event}
FROM audit_events
WHERE id IN (SELECT event_id FROM taken)
ORDER BY id;

-- name: last
SELECT {seal}
FROM audit_seals
ORDER BY number DESC
LIMIT 1;

-- name: insert
INSERT INTO audit_seals (number, previous, root, events, leaves, sealed_at, key_id, signature)
VALUES (%(number)s, %(previous)s, %(root)s, %(events)b::uuid[], %(leaves)s, %(sealed_at)s, %(key_id)s, %(signature)s);

-- name: waiting
SELECT count(*) AS events, min(event.at) FILTER (WHERE isfinite(event.at)) AS since
FROM audit_unsealed AS waiting
LEFT JOIN audit_events AS event ON event.id = waiting.event_id;

-- name: count
SELECT count(*) AS seals
FROM audit_seals;

-- name: all
SELECT {seal}
FROM audit_seals
ORDER BY number;

-- name: of_event
SELECT {seal}
FROM audit_seals
WHERE events @> ARRAY[%(id)s::uuid]
ORDER BY number
LIMIT 1;

-- name: events
SELECT {event}
FROM audit_events
WHERE id = ANY(%(ids)b::uuid[]);

-- name: unaccounted
-- The first event of each kind that is not exactly once in a seal or on the queue, or that is there and nowhere else.
WITH known AS (
    SELECT id, count(*) AS times
    FROM (
        SELECT unnest(events) FROM audit_seals
        UNION ALL
        SELECT event_id FROM audit_unsealed
    ) AS named (id)
    GROUP BY id
)
SELECT DISTINCT ON (gone, times) id, event.id IS NULL AS gone, least(coalesce(times, 0), 2) AS times
FROM known
FULL JOIN audit_events AS event USING (id)
WHERE id IS NOT NULL
  AND (event.id IS NULL OR times IS DISTINCT FROM 1)
ORDER BY gone, times, id;

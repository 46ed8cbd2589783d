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

-- name: may_read
SELECT has_table_privilege('audit_people', 'SELECT') AS people,
       has_column_privilege('users', 'audit_key', 'SELECT') AS keys;

-- name: people
-- For each key that personal values were sealed with, and that is not the present key of a person: an event that has
-- such a value. Users who were erased are left out. Values without a fingerprint are left to the caller to open, one of
-- each user who has none with it. The fingerprints of the present keys are from the view, or made from the keys.
WITH sealed AS (
    SELECT target_id AS user_id, {fingerprint of personal} AS fingerprint
    FROM audit_events
    WHERE target_id IS NOT NULL
      AND personal IS NOT NULL
    UNION ALL
    SELECT actor_id, {fingerprint of source}
    FROM audit_events
    WHERE actor_id IS NOT NULL
      AND source IS NOT NULL
),
keys AS (
    SELECT user_id, fingerprint, bool_or(fingerprint IS NOT NULL) OVER (PARTITION BY user_id) AS has_fingerprint
    FROM sealed
    GROUP BY user_id, fingerprint
),
doubtful AS (
    SELECT keys.user_id, keys.fingerprint, person.id IS NULL AS gone
    FROM keys
    LEFT JOIN {people} AS person ON person.id = keys.user_id
    WHERE CASE
        WHEN person.id IS NULL THEN NOT EXISTS (
            SELECT
            FROM audit_events AS erasure
            WHERE erasure.target_id = keys.user_id
              AND erasure.action = 'users:purge'
        )
        WHEN keys.fingerprint IS NULL THEN NOT has_fingerprint
        ELSE keys.fingerprint IS DISTINCT FROM person.fingerprint
    END
)
SELECT doubtful.*, example.id, example.value
FROM doubtful
CROSS JOIN LATERAL (
    (
        SELECT id, personal AS value
        FROM audit_events
        WHERE target_id = doubtful.user_id
          AND personal IS NOT NULL
          AND {fingerprint of personal} IS NOT DISTINCT FROM doubtful.fingerprint
        ORDER BY at, id
        LIMIT 1
    )
    UNION ALL
    (
        SELECT id, source
        FROM audit_events
        WHERE actor_id = doubtful.user_id
          AND source IS NOT NULL
          AND {fingerprint of source} IS NOT DISTINCT FROM doubtful.fingerprint
        ORDER BY at, id
        LIMIT 1
    )
    LIMIT 1
) AS example;

-- Imports and exports of users.

-- name: clear
-- What nobody has gone on with for a month is begun anew.
DELETE FROM imports
WHERE updated_at < now() - interval '30 days';

-- name: start
INSERT INTO imports (id, digest)
VALUES (%(id)s, %(digest)s)
ON CONFLICT DO NOTHING;

-- name: unfinished
SELECT id, records, created, changed, unchanged, rejected
FROM imports
WHERE digest = %(digest)s
  AND finished_at IS NULL;

-- name: lock
SELECT records
FROM imports
WHERE id = %(id)s
  AND finished_at IS NULL
FOR UPDATE;

-- name: advance
UPDATE imports
SET records = records + %(records)s,
    created = created + %(created)s,
    changed = changed + %(changed)s,
    unchanged = unchanged + %(unchanged)s,
    rejected = rejected + %(rejected)s,
    updated_at = clock_timestamp()
WHERE id = %(id)s;

-- name: finish
UPDATE imports
SET finished_at = clock_timestamp(),
    updated_at = clock_timestamp()
WHERE id = %(id)s;

-- name: rejects
SELECT line, problem
FROM import_rejects
WHERE import_id = %(id)s
ORDER BY line;

-- name: stage
CREATE TEMPORARY TABLE staged_users (
    id uuid,
    tag text COLLATE "C",
    email text COLLATE "C",
    name text,
    name_key text,
    kind text,
    role text,
    status text,
    models text,
    attributes text,
    words text,
    audit_key bytea
) ON COMMIT DROP;

-- name: insert
-- Who has the tag or the address already is left out, also one who comes meanwhile.
INSERT INTO users (id, tag, email, name, name_key, kind, role, status, models, attributes, words, audit_key)
SELECT id, tag, email, name, name_key, kind, role, status, string_to_array(models, ' '), attributes::jsonb,
       array_to_tsvector(string_to_array(words, ' ')), audit_key
FROM staged_users
-- Two imports of the same users wait for one another in the same order.
ORDER BY tag
ON CONFLICT DO NOTHING
RETURNING tag;

-- name: would_insert
SELECT staged.tag
FROM staged_users AS staged
WHERE NOT EXISTS (SELECT FROM users WHERE users.tag = staged.tag AND users.status <> 'deleted')
  AND NOT EXISTS (SELECT FROM users WHERE lower(users.email) = lower(staged.email) AND users.status <> 'deleted')
  AND NOT EXISTS (SELECT FROM foreseen_users AS seen WHERE seen.tag = staged.tag)
  AND NOT EXISTS (SELECT FROM foreseen_users AS seen WHERE seen.email = lower(staged.email));

-- name: foresee
-- For a dry run: the users of the file so far who would be new.
CREATE TEMPORARY TABLE foreseen_users (
    tag text COLLATE "C" PRIMARY KEY,
    email text COLLATE "C" UNIQUE,
    members jsonb NOT NULL
);

-- name: foreseen
SELECT members
FROM foreseen_users
WHERE tag = %(tag)s OR email = %(email)s;

-- name: by_tag
SELECT {columns}
FROM users
WHERE tag = ANY(%(keys)s)
  AND status <> 'deleted';

-- name: by_email
SELECT {columns}
FROM users
WHERE lower(email) = ANY(%(keys)s)
  AND status <> 'deleted';

-- name: lock_users
-- In one order, whatever the order of the file: two imports of the same users wait, and do not deadlock.
SELECT
FROM users
WHERE id = ANY(%(ids)s)
ORDER BY id
FOR UPDATE;

-- name: export
SELECT {columns}
FROM users
WHERE {conditions}
ORDER BY id;

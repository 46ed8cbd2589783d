-- Subjects of identity providers, and the users whom they sign in.

-- name: find
SELECT users.id AS user_id, users.tag, users.kind, users.role, users.status, users.models, users.audit_key
FROM identities
JOIN users ON users.id = identities.user_id
WHERE identities.issuer = %(issuer)s
  AND identities.subject = %(subject)s;

-- name: lock_unbound
-- Whom a verified address may be bound to; the expression and the status are those of users_email_key.
SELECT id, audit_key
FROM users
WHERE lower(email) = %(email)s
  AND status = 'active'
  AND role IN ('auditor', 'member')
  AND NOT EXISTS (SELECT FROM identities WHERE user_id = users.id)
FOR UPDATE;

-- name: bind_once
-- After lock_unbound, whose snapshot may be older than its lock: another request may have bound the user meanwhile.
INSERT INTO identities (issuer, subject, user_id, email)
SELECT %(issuer)s, %(subject)s, %(user_id)s, %(email)s
WHERE NOT EXISTS (SELECT FROM identities WHERE user_id = %(user_id)s)
ON CONFLICT DO NOTHING;

-- name: lock_tag
SELECT id, audit_key
FROM users
WHERE tag = %(tag)s
  AND status <> 'deleted'
FOR UPDATE;

-- name: lock_identities
-- Nobody else binds until the transaction ends; reading goes on.
LOCK TABLE identities IN SHARE ROW EXCLUSIVE MODE;

-- name: unbind
-- What stands in the way of a binding: the user's other subject of the issuer, and the subject's other user.
DELETE FROM identities
USING users
WHERE users.id = identities.user_id
  AND identities.issuer = %(issuer)s
  AND (identities.subject = %(subject)s OR identities.user_id = %(user_id)s)
RETURNING users.id, users.tag, users.audit_key, identities.subject;

-- name: unbind_from_others
DELETE FROM identities
USING users
WHERE users.id = identities.user_id
  AND users.id = %(user_id)s
  AND identities.email <> lower(coalesce(users.email, '-'))
RETURNING issuer, subject;

-- name: bind
INSERT INTO identities (issuer, subject, user_id)
VALUES (%(issuer)s, %(subject)s, %(user_id)s);

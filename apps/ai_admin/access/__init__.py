"""Who may do what: principals, their credentials, scopes, and the guard before every route."""

"""API keys of users: made, shown once, changed, replaced and revoked."""

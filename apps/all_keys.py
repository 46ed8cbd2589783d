"""Fission function `ai-admin-all-keys`: GET `/ai/admin/keys`, and the report of a leaked key."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """Find keys of all users, or revoke one that has leaked."""
    return fission.answer(application, "/ai/admin/keys", "/ai/admin/keys/report-leak")

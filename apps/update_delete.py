"""Fission function `ai-admin-update-delete-user`: GET, PUT and DELETE `/ai/admin/users/{UserID}`."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """Get, change or delete a user."""
    return fission.answer(application, "/ai/admin/users/<UserID>")

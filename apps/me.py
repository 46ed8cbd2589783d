"""Fission function `ai-admin-me`: `/ai/me` and one's own keys."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """Show who calls, and let them manage their own keys."""
    return fission.answer(application, "/ai/me", "/ai/me/keys", "/ai/me/keys/<KeyID>")

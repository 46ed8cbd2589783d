"""Fission function `ai-admin-my-keys`: `/ai/me/keys`, one of them, and its rotation."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """List, make, change, rotate and revoke one's own API keys."""
    return fission.answer(application, "/ai/me/keys", "/ai/me/keys/<KeyID>", "/ai/me/keys/<KeyID>/rotate")

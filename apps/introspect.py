"""Fission function `ai-admin-introspect`: POST `/ai/introspect`."""

from flask import Response

from ai_admin import fission

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """Tell a gateway about its caller's credential."""
    return fission.answer(application, "/ai/introspect")

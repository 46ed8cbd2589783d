"""Fission function `ai-admin-seal-audit`: a time trigger calls it, and no route leads to it."""

from flask import Response

from ai_admin import fission
from ai_admin.audit.sealer import seal_on_call

# Made when the function is specialised, so that the first request does not wait for it.
application = fission.application()


def main() -> Response:
    """Seal the events of the audit log that wait."""
    return fission.run(application, seal_on_call)

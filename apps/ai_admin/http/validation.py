"""Pydantic's errors as the `details` of a problem."""

from pydantic import ValidationError

from ai_admin.errors import Detail


def details_of(error: ValidationError, place: str) -> list[Detail]:
    """Pydantic's `errors()`, each location under `body`, `query`, `path` or `header`.

    The inputs are left out: a member may hold a secret, and an answer must not be as large as the request.
    """
    details: list[Detail] = []
    for fault in error.errors(include_url=False, include_input=False):
        detail: Detail = {"type": fault["type"], "loc": [place, *fault["loc"]], "msg": fault["msg"]}
        if "ctx" in fault:
            detail["ctx"] = {name: _plain(value) for name, value in fault["ctx"].items()}
        details.append(detail)
    return details


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool) else str(value)

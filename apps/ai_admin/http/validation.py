"""Pydantic's errors as the `details` of a problem."""

from pydantic import ValidationError

from ai_admin.errors import Detail

# An answer is no multiple of the request: beyond these many faults, and letters of a caller's name, it is cut.
_MOST_DETAILS = 100
_LONGEST_NAME = 200


def details_of(error: ValidationError, place: str) -> list[Detail]:
    """Pydantic's `errors()`, each location under `body`, `query`, `path` or `header`.

    The inputs are left out: a member may hold a secret, and an answer must not be as large as the request.
    """
    details: list[Detail] = []
    for fault in error.errors(include_url=False, include_input=False)[:_MOST_DETAILS]:
        loc = [part[:_LONGEST_NAME] if isinstance(part, str) else part for part in fault["loc"]]
        detail: Detail = {"type": fault["type"], "loc": [place, *loc], "msg": fault["msg"]}
        if "ctx" in fault:
            detail["ctx"] = {name: _plain(value) for name, value in fault["ctx"].items()}
        details.append(detail)
    more = error.error_count() - len(details)
    if more:
        details.append({"type": "too_many", "loc": [place], "msg": f"{more} more faults are not listed"})
    return details


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool) else str(value)

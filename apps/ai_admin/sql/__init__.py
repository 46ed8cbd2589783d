"""Named queries. A file `users.sql` holds queries, each under a line `-- name: what it is called`."""

import re
from functools import cache
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def queries(topic: str) -> dict[str, str]:
    """The queries of `sql/<topic>.sql` by name, comments left in: they help whoever reads the server's log."""
    text = resources.files(__name__).joinpath(f"{topic}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}

"""Key rings for tests, and what the vault logs."""

import base64
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from ai_admin.logs import JsonLines
from ai_admin.vault.keyring import KeyRing


def entry(key_id: str, key: bytes, state: str = "active") -> dict[str, str]:
    """One key as it stands in the setting. A key of one byte again and again, which is refused, ends in another."""
    if len(set(key)) == 1:
        key = key[:-1] + bytes([key[0] ^ 0xFF])
    return {"id": key_id, "key": base64.b64encode(key).decode(), "state": state}


def text_of(*entries: dict[str, str]) -> str:
    """The setting's text."""
    return json.dumps({"keys": entries})


def ring_of(*entries: dict[str, str]) -> KeyRing:
    """The ring of these keys."""
    return KeyRing.parse(SecretStr(text_of(*entries)))


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Everything that the vault logs meanwhile, debug included, as the product writes it."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonLines())
    with listening(logging.getLogger("ai_admin.vault"), handler):
        yield lines


@contextmanager
def listening(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    """Have the handler told everything that the logger is told meanwhile, debug included."""
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

"""Values that a page gives to the browser and takes back: nobody reads them on the way, and nobody makes them up."""

from typing import Any

import orjson
from nacl.exceptions import CryptoError
from nacl.secret import Aead

from ai_admin.cursors import Keys, opened
from ai_admin.services import services


class NotOurs(ValueError):
    """The text was not made here, or for something else."""


def seal(value: object, purpose: bytes) -> str:
    """A JSON value as text: XChaCha20-Poly1305 under the deployment's key, in hexadecimal digits."""
    return Aead(_keys()[0]).encrypt(orjson.dumps(value), purpose).hex()


def unseal(text: str, purpose: bytes) -> Any:
    """The value that `seal` was given for the same purpose. Raises `NotOurs`."""
    try:
        return orjson.loads(opened(bytes.fromhex(text), purpose, _keys()))
    except (ValueError, CryptoError):
        raise NotOurs from None


def _keys() -> Keys:
    return services().settings.secret.cursor_keys()

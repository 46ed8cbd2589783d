"""What is sealed of a credential: a letter that tells in which form it was sent, and its bytes."""

import base64

from ai_admin.vault.secret_value import SecretValue

_TEXT = b"t"
_BYTES = b"b"
# A shorter value would be told by its last four characters.
_SHORTEST_WITH_LAST_FOUR = 12


def of_text(value: SecretValue) -> SecretValue:
    """The content of a credential that was sent as text, in UTF-8."""
    return SecretValue(_TEXT + value.get_secret_value())


def of_bytes(value: SecretValue) -> SecretValue:
    """The content of a credential that was sent in base64."""
    return SecretValue(_BYTES + value.get_secret_value())


def as_sent(content: SecretValue) -> dict[str, str]:
    """The member that the credential was sent as: `value` or `valueBase64`."""
    form, value = _parts(content)
    if form == _TEXT:
        return {"value": value.decode()}
    return {"valueBase64": base64.b64encode(value).decode("ascii")}


def last_four(content: SecretValue) -> str:
    """The last four characters of a text of at least twelve printable ASCII characters; empty for all else."""
    form, value = _parts(content)
    text = value.decode("ascii") if form == _TEXT and value.isascii() else ""
    return text[-4:] if len(text) >= _SHORTEST_WITH_LAST_FOUR and text.isprintable() else ""


def _parts(content: SecretValue) -> tuple[bytes, bytes]:
    raw = content.get_secret_value()
    return raw[:1], raw[1:]

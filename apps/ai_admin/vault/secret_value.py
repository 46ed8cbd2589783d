"""A value that does not print."""

from typing import NoReturn

from pydantic import SecretBytes


class SecretValue(SecretBytes):
    """Bytes that show as asterisks wherever they are printed, logged or dumped; `get_secret_value` gives them out.

    Pickling, which would write them to a file, a cache or another process, raises `TypeError`. Call
    `get_secret_value` where the bytes are used: a local variable that holds them shows in a crash report.
    """

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a secret value is not pickled")

    def __copy__(self) -> "SecretValue":
        return self

    def __deepcopy__(self, _memo: object) -> "SecretValue":
        return self

"""Files that are not UTF-8: what they look like, and the same text in UTF-8."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from tempfile import TemporaryFile
from typing import IO, Literal, get_args

from ai_admin.transfer.tables import FileInvalid

# Names of Python's codecs, of what spreadsheets write.
Encoding = Literal[
    "utf-8", "utf-16", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257", "cp1258", "big5", "euc_kr",
    "gb18030", "shift_jis",
]  # fmt: skip
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
# Letters of the file at once.
_PART = 1 << 16


@contextmanager
def in_utf_8(file: IO[bytes], encoding: Encoding) -> Iterator[IO[bytes]]:
    """The file itself, or a temporary one with its text in UTF-8.

    Raises `FileInvalid` where the file has bytes that the encoding does not know.
    """
    if encoding == "utf-8":
        yield file
        return
    with TemporaryFile() as text:
        file.seek(0)
        reader = TextIOWrapper(file, encoding, newline="")
        try:
            while part := reader.read(_PART):
                text.write(part.encode())
        except UnicodeError:
            raise FileInvalid(f"The file has bytes that are no text in {encoding}; give another encoding") from None
        finally:
            # The file stays open.
            reader.detach()
        text.seek(0)
        yield text

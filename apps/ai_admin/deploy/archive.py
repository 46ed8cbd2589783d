"""The archive of the functions' sources: the same bytes for the same sources, on every machine and Python.

Fission compares archives by their checksum. `fission spec apply` packs what globs match in random order, so that each
apply builds the package again and replaces every pod; an archive that is complete already is taken as it is.
"""

import io
import stat
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

NAME = "ai-work.zip"
# The earliest time that the format has.
_TIME = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_LEFT_OUT = (".pyc", ".pyo", "~")


def pack(sources: Path) -> bytes:
    """Return a zip of all files below a folder, by their paths there. Raises `OSError`.

    Names are sorted, times and modes are fixed, scripts can be executed. Nothing is compressed: versions of zlib differ
    in what they make of the same bytes. Bytecode, hidden files and editors' backups are left out.
    """
    written = io.BytesIO()
    with ZipFile(written, "w", ZIP_STORED) as archive:
        for name in sorted(_names(sources)):
            info = ZipInfo(name, _TIME)
            info.create_system = _UNIX
            info.external_attr = (stat.S_IFREG | (0o755 if name.endswith(".sh") else 0o644)) << 16
            archive.writestr(info, (sources / name).read_bytes())
    return written.getvalue()


def _names(sources: Path) -> Iterator[str]:
    for path in sources.rglob("*"):
        parts = path.relative_to(sources).parts
        is_left_out = "__pycache__" in parts or any(part.startswith(".") for part in parts)
        if path.is_file() and not is_left_out and not path.name.endswith(_LEFT_OUT):
            yield "/".join(parts)

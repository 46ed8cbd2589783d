"""`fission spec apply --watch`: what it notices, with the watches of Linux that it sets.

It watches every file and folder beside the specs, and goes by each event but those of names that begin with `.#` or end
with `~` (pkg/fission-cli/cmd/spec/apply.go).
"""

import ctypes
import os
import select
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ai_admin.deploy import archive
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
# fsnotify's: moved, created, attributes, modified, deleted.
_EVENTS = 0x40 | 0x80 | 0x100 | 0x4 | 0x2 | 0x200 | 0x400 | 0x800
_HANGS_S = 60


class Watch:
    """The watches that `fission spec apply --watch` sets when it starts."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the one above the specs."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(os.O_NONBLOCK)
        self._paths = {}
        for path in [folder, *folder.rglob("*")]:
            number = self._libc.inotify_add_watch(self._file, os.fsencode(path), _EVENTS)
            assert number >= 0, os.strerror(ctypes.get_errno())
            self._paths[number] = path

    def noticed(self, patience: float) -> set[str]:
        """The names of what has changed, when something has; none after so many seconds."""
        found: set[str] = set()
        while select.select([self._file], [], [], 0.5 if found else patience)[0]:
            buffer, at = os.read(self._file, 65536), 0
            while at < len(buffer):
                number, _, _, length = struct.unpack_from("iIII", buffer, at)
                name = buffer[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                path = str(self._paths[number] / name) if name else str(self._paths[number])
                at += 16 + length
                if "/.#" not in path and not path.endswith("~"):
                    found.add(Path(path).name)
        return found

    def close(self) -> None:
        """End all watches."""
        os.close(self._file)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone in which somebody works."""
    for name in (".fission", "specs", "apps"):
        shutil.copytree(ROOT / name, tmp_path / "project" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "project"


@contextmanager
def following(project: Path, out: Path) -> Iterator["subprocess.Popen[str]"]:
    """`ai-admin deploy render --follow`, once it has rendered."""
    command = [sys.executable, "-m", "ai_admin", "deploy", "render", "dev", "--follow", "--without-secret"]
    process = subprocess.Popen(
        [*command, "--project", str(project), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "apps"), "PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        for line in process.stderr:
            if "Following" in line:
                break
        yield process
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def test_watch_of_a_followed_stage_notices_sources_and_nothing_else(project: Path, tmp_path: Path) -> None:
    """An edit is deployed once; a database, bytecode or git that writes into the clone starts no build."""
    out = tmp_path / "out"
    with following(project, out) as process:
        watch = Watch(out)
        for noise in (".local/data/postgres/wal", "apps/ai_admin/__pycache__/app.pyc", ".git/index", "docs/x.md"):
            (project / noise).parent.mkdir(parents=True, exist_ok=True)
            (project / noise).write_bytes(b"written")
        assert watch.noticed(3) == set()
        source = project / "apps" / "me.py"
        source.write_bytes(source.read_bytes() + b"# edited\n")
        assert watch.noticed(_HANGS_S) == {archive.NAME}
        spec = project / "specs" / "fn-me.yaml"
        spec.write_text(spec.read_text().replace("functionTimeout: 300", "functionTimeout: 300\n  concurrency: 400"))
        assert watch.noticed(_HANGS_S) == {"fn-me.yaml"}
        # A spec that is half written is said, and followed on once it is whole.
        whole = spec.read_text()
        spec.write_text("kind: [")
        assert process.stderr
        assert any("cannot be read" in line for line in process.stderr)
        assert watch.noticed(0) == set()
        spec.write_text(whole.replace("400", "450"))
        assert watch.noticed(_HANGS_S) == {"fn-me.yaml"}
        watch.close()


def test_watch_of_the_clone_notices_whatever_is_written_there(project: Path) -> None:
    """The reason why the stage is watched in place of the clone: each write of a database starts another build."""
    (project / ".local" / "data").mkdir(parents=True)
    watch = Watch(project)
    (project / ".local" / "data" / "wal").write_bytes(b"written")
    assert watch.noticed(_HANGS_S) == {"wal"}
    watch.close()

"""The key ring of the mounted Secret, taken up anew when its file changes: at its next use, or by a thread."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from ai_admin.config import SECRET_NAME, ConfigError, read_secret, secret_file
from ai_admin.vault.keyring import KeyRing, KeyRingInvalid

SETTING = "VAULT_KEYS"
# Seconds between two looks at the file.
INTERVAL = 1.0
_log = logging.getLogger(__name__)


def load_key_ring(root: Path | None = None) -> KeyRing:
    """The ring as the mounted file says now. Raises `ConfigError`."""
    text = _read(root)
    if isinstance(text, str):
        raise _config_error(text)
    try:
        return KeyRing.parse(text)
    except KeyRingInvalid as error:
        raise _config_error(str(error)) from None


def _read(root: Path | None) -> SecretStr | str:
    """The text of the ring, or what is wrong with the file; the error of a bad text holds it, so it ends here."""
    try:
        text = read_secret(SETTING, root)
    except UnicodeDecodeError:
        return "is not UTF-8; write it as JSON"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return SecretStr(text) if text else "is missing; add the key"


def _config_error(fault: str) -> ConfigError:
    return ConfigError(f"{SETTING}: {fault}. It is read from /secrets/<namespace>/{SECRET_NAME}/{SETTING}.")


class MountedKeyRing:
    """Follows the file. A change that is wrong leaves the ring as it is and is logged, once. Safe between threads."""

    def __init__(self, root: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the ring; `clock` tells seconds. Raises `ConfigError`."""
        self._root, self._clock = root, clock
        self._looking = threading.Lock()
        # The stamp is taken before the file is read: a change in between shows as a change at the next look.
        self._stamp = self._refused = self._file_stamp()
        self._ring = load_key_ring(root)
        self._next_look = clock() + INTERVAL

    def current(self) -> KeyRing:
        """The ring in force, at most `INTERVAL` seconds behind the file. Take it once for each piece of work."""
        if self._clock() >= self._next_look and self._looking.acquire(blocking=False):
            try:
                self._look()
                self._next_look = self._clock() + INTERVAL
            finally:
                self._looking.release()
        return self._ring

    def follow(self, told: Callable[[bool], object], pause: Callable[[float], bool]) -> None:
        """Take up each change of the file within `INTERVAL` seconds, whether or not anybody asks for the ring.

        `pause` waits for so many seconds, and returns true to end this. `told` learns after each look whether the file
        has a ring that cannot be used, so that the one before it is in force.
        """
        while not pause(INTERVAL / 2):
            try:
                with self._looking:
                    self._look()
                    self._next_look = self._clock() + INTERVAL
                told(self._refused != self._stamp)
            except Exception:  # noqa: BLE001  the thread's edge: the next look may find it mended
                _log.exception("the key ring could not be looked at")

    def _look(self) -> None:
        stamp = self._file_stamp()
        if stamp == self._stamp:
            # A wrong file may have stood here meanwhile.
            self._refused = stamp
            return
        try:
            ring = load_key_ring(self._root)
            ring.require_same_keys(self._ring)
        except (ConfigError, KeyRingInvalid) as error:
            # It is read again at the next look, and told of again when the file changes.
            if stamp != self._refused:
                _log.error("the key ring changed and cannot be used: %s", error)
            self._refused = stamp
            return
        self._ring, self._stamp, self._refused = ring, stamp, stamp
        states = {key.id: key.state for key in ring.keys}
        _log.info("the key ring changed", extra={"fields": {"keys": states}})

    def _file_stamp(self) -> tuple[int, ...] | None:
        """What tells one content from the next, whether a link is swapped or the file written; None without a file."""
        try:
            file = secret_file(SETTING, self._root)
            stat = None if file is None else file.stat()
        except OSError:
            return None
        return None if stat is None else (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)

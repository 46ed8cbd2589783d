"""Who seals the log without being asked: a thread beside a server's workers, and Fission's time trigger."""

import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice

from nacl.signing import SigningKey

from ai_admin.audit.sealing import AlreadySealing, seal_waiting, signing_key
from ai_admin.config import Settings
from ai_admin.database import Database
from ai_admin.errors import ApiError
from ai_admin.services import Services

# Between two looks at the queue, in seconds: so long may an event wait.
_PAUSE_S = 2.0
# Most seals of one call by the time trigger: well within the time that a function has.
_SEALS_A_CALL = 100
_NO_KEY = "AUDIT_SEAL_KEY is not set, so the audit log is not sealed"
_log = logging.getLogger(__name__)


def seal_on_call(services: Services) -> None:
    """Seal what waits, for Fission's time trigger. Raises `DatabaseUnavailable`, `SchemaOutdated`."""
    key = signing_key(services.settings.secret)
    if key is None:
        _log.warning(_NO_KEY)
        return
    # Another process that seals does what there is to do.
    with suppress(AlreadySealing):
        for _ in islice(seal_waiting(services.database, key), _SEALS_A_CALL):
            pass


@contextmanager
def sealing(settings: Settings) -> Iterator[None]:
    """Seal in a thread until the block ends, whether the database is there or not."""
    key = signing_key(settings.secret)
    if key is None:
        _log.warning(_NO_KEY)
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_run, args=(settings, key, stop), name="sealer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _run(settings: Settings, key: SigningKey, stop: threading.Event) -> None:
    failing = False
    with closing(Database(settings)) as database:
        while not stop.wait(_PAUSE_S):
            try:
                with suppress(AlreadySealing):
                    for _ in seal_waiting(database, key):
                        if stop.is_set():
                            break
                failing = False
            except ApiError as error:
                # Once an outage: there is a try every two seconds.
                if not failing:
                    _log.warning("not sealed", exc_info=error.__cause__ or error)
                failing = True
            except Exception:  # noqa: BLE001  the thread's edge
                # What waits is kept, and the next try may find it mended.
                _log.exception("not sealed")

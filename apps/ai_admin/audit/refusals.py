"""How many refusals become events: a flood of them must not fill the log, nor hide what another caller does."""

from uuid import UUID

from ai_admin.access.rates import Rates


class Refusals:
    """Lets at most `most` refusals be recorded in any second, and three tenths of that of one caller at once.

    A bucket that holds half of `most` and fills at that rate gives no more than `most` in any second. One caller, and
    all unknown callers together, get a fifth of what the process records: it takes five of them to hide a sixth.
    """

    def __init__(self, most: int) -> None:
        """`most` a second in this process."""
        self._of_all = Rates(most / 2, burst=most / 2)
        self._of_caller = Rates(most / 10, burst=most * 0.3)

    def take(self, caller: UUID | None) -> bool:
        """Whether this refusal is recorded; None stands for everybody who is not known."""
        return self._of_caller.take(caller) and self._of_all.take(None)

"""What a Codex thread spends, from reports that repeat themselves."""

from __future__ import annotations

from typing import NamedTuple


class Report(NamedTuple):
    """One report: the tokens of a thread so far, those of its last response, and of which limit."""

    total: dict[str, int]
    last: dict[str, int]
    limit: str | None = None


class TokenCounter:
    """What each report of a thread's tokens adds to those before.

    The reports state a running total, half of them the one before once more. Their differences
    are summed, so that messages together have the last total, also where lines are lost. Where
    the total falls (Codex sets it anew when the context is full: `fill_to_context_window` in
    `protocol/src/protocol.rs`) the last response's own number is taken. So it is where another
    limit is counted against: some threads have a total for each, and their reports alternate
    (farion1231/cc-switch#5854, six times too many), others have one that goes on.
    """

    def __init__(self) -> None:
        self._before: Report | None = None
        self._totals: dict[str | None, dict[str, int]] = {}  # by limit, as stated last

    def follow(self, report: Report) -> None:
        """Take a total as known: it is not this thread's doing."""
        self._before = report
        self._totals[report.limit] = report.total

    def added(self, report: Report, *, continued: bool) -> dict[str, int]:
        """Return what a report adds; nothing but zeros where it is a repetition.

        `continued` threads begin with a total that is their parent's.
        """
        before, repeated = self._before, report.total in self._totals.values()
        self.follow(report)
        total, last, limit = report
        if before is None:
            return last if continued else total
        if repeated:
            return dict.fromkeys(total, 0)
        another = limit != before.limit and any(last.values())
        if another or any(total[name] < value for name, value in before.total.items()):
            return last
        return {name: total[name] - value for name, value in before.total.items()}

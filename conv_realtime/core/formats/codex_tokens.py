"""What a Codex thread spends, from reports that repeat themselves."""

from __future__ import annotations


class TokenCounter:
    """What each report of a thread's tokens adds to those before.

    The reports state a running total, half of them the one before once more. Their differences
    are summed, so that messages together have the last total, also where lines are lost. Where
    the total falls (Codex sets it anew when the context is full: `fill_to_context_window` in
    `protocol/src/protocol.rs`) the last response's own number is taken.
    """

    def __init__(self) -> None:
        self._total: dict[str, int] | None = None

    def follow(self, total: dict[str, int]) -> None:
        """Take a total as known: it is not this thread's doing."""
        self._total = total

    def added(
        self, total: dict[str, int], last: dict[str, int], *, continued: bool
    ) -> dict[str, int]:
        """Return what a report adds; nothing but zeros where it is a repetition.

        `continued` threads begin with a total that is their parent's.
        """
        before, self._total = self._total, total
        if before is None:
            return last if continued else total
        if any(total[name] < value for name, value in before.items()):
            return last
        return {name: total[name] - value for name, value in before.items()}

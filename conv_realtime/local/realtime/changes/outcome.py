"""Which of a table's changes go to which bindings of one user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from conv_realtime.local.realtime.changes.bindings import Binding
from conv_realtime.local.realtime.changes.checks import Checks
from conv_realtime.local.realtime.changes.filters import Filter
from conv_realtime.local.realtime.changes.message import RowChange
from conv_realtime.local.realtime.changes.sight import Answer, Question
from conv_realtime.local.realtime.changes.subscriptions import GroupKey, Interest
from conv_realtime.local.realtime.changes.tables import Table
from conv_realtime.local.wal.pgoutput import Row


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the question.

    Attributes:
        visible: the changes that the policies let the user see.
        holds: the conditions that hold, by change.
        failed: whether nothing is visible because there was no answer.
    """

    visible: frozenset[RowChange]
    holds: Mapping[RowChange, frozenset[Filter]]
    failed: bool = False

    @classmethod
    def failure(cls) -> Outcome:
        """Lets nothing be seen."""
        return cls(frozenset(), {}, failed=True)

    def admits(self, change: RowChange, binding: Binding, role: str) -> bool:
        """Whether a change is for a binding.

        That a change cannot be told for want of a key or of rights is told without looking at
        the filters, as on a real server.
        """
        if binding.event not in ("*", change.kind) or change not in self.visible:
            return False
        if change.failure(role) is not None or not binding.filters:
            return True
        return self.holds.get(change, frozenset()).issuperset(binding.filters)


async def judge(
    checks: Checks, key: GroupKey, changes: Sequence[RowChange], interests: Iterable[Interest]
) -> Outcome:
    """Finds out what a user may see of some changes of one table.

    Raises:
        CheckFailed: that cannot be found out.
    """
    conditions = {
        condition: None
        for _, bindings in interests
        for binding in bindings
        for condition in binding.filters
    }
    role = key.user.role
    visible: set[RowChange] = set()
    holds: dict[RowChange, frozenset[Filter]] = {}
    # The stream may describe a table anew between two changes: each description for itself.
    for table in dict.fromkeys(change.table for change in changes):
        known = [one for one in conditions if table.may_read(role, one.column)]
        asked = []
        for change in changes:
            if change.table is not table:
                continue
            told = change.failure(role) is None
            if told and (known or (table.secured and change.kind != "DELETE")):
                asked.append(change)
            else:
                visible.add(change)
        if asked:
            rows = [_row(table, change) for change in asked]
            seen = [table.secured and change.kind != "DELETE" for change in asked]
            answers = await checks.ask(key, Question(table, rows, seen, known))
            for change, row, answer in zip(asked, rows, answers, strict=True):
                holds[change] = _holding(change, row, known, answer)
                if answer.visible:
                    visible.add(change)
    return Outcome(frozenset(visible), holds)


def _row(table: Table, change: RowChange) -> Row:
    """Gives the values that conditions are about.

    Of a deleted row of a secured table only the key: the policies cannot say who was allowed to
    see the rest, and a filter on it would tell.
    """
    if change.kind != "DELETE":
        return change.new
    if not table.secured:
        return change.old
    keys = {column.name for column in table.key}
    return {name: value for name, value in change.old.items() if name in keys}


def _holding(
    change: RowChange, row: Row, known: Sequence[Filter], answer: Answer
) -> frozenset[Filter]:
    """Gives the conditions that hold; one on a column that is missing does not.

    A condition on what is known of a deleted row, but kept back, holds for everybody alike.
    """
    kept_back = change.old if change.kind == "DELETE" else {}
    return frozenset(
        condition
        for condition, holds in zip(known, answer.holds, strict=True)
        if (holds if condition.column in row else condition.column in kept_back)
    )

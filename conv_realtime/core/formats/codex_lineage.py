"""Which lines of a Codex rollout are its own, and which of another thread's.

A fork, and a subagent that was given its parent's history, begin with a copy of it: the parent's
lines, its `session_meta` too, all with the time of copying. Counted again, one day of subagents
was seen with seven times its tokens (ccusage#1370, tokscale#679). Where the copy ends is said by,
in this order:

* `subagent_history_start_ordinal`, the first own line of a paginated history;
* the thread that a line names;
* a turn: its id is a UUIDv7, or it states when it started, and a copied one is older than this
  thread. The copy ends where the first own turn begins;
* before turns had ids (until early 2026) only the pace: a copy is written in one go, some
  milliseconds for hundreds of lines (ccusage#1501); what comes a second after it is own.

A paginated fork copies nothing: `history_base` says where its history is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from conv_realtime.core.fields import count, mapping, text, time
from conv_realtime.core.formats.codex_records import RolloutLine

_PAUSE = timedelta(seconds=1)


class Lineage:
    """Tells own lines from copied ones; each line must pass through `is_copy`, in order."""

    def __init__(self) -> None:
        self._thread: str | None = None
        self._created: datetime | None = None
        self._start: int | None = None
        self._copying = False
        self._begun = False
        self._dated = False
        self._last: datetime | None = None

    def first_meta(self, line: RolloutLine) -> None:
        """Take the line that names the file's thread."""
        meta = line.payload
        self._thread = text(meta.get("id"))
        self._created = _born(self._thread) or time(meta.get("timestamp")) or line.at
        self._start = count(meta.get("subagent_history_start_ordinal"))
        forked = bool(text(meta.get("forked_from_id"))) and not mapping(meta.get("history_base"))
        self._copying = self._start is not None or forked
        self._last = line.at

    def later_meta(self, line: RolloutLine) -> bool:
        """Take another; return whether it is this thread's own."""
        own = text(line.payload.get("id")) == self._thread
        if not own and not self._begun:
            self._copying = True
        self._last = line.at or self._last
        return own

    def is_copy(self, line: RolloutLine) -> bool:
        """Return whether a line is another thread's."""
        before, self._last = self._last, line.at or self._last
        if self._copying and self._is_own(line, before):
            self._copying = False
        self._begun = self._begun or not self._copying
        return self._copying

    def _is_own(self, line: RolloutLine, before: datetime | None) -> bool:
        if self._start is not None and line.ordinal is not None:
            return line.ordinal >= self._start
        if owner := text(line.payload.get("thread_id")):
            return owner == self._thread
        if (began := _began(line.payload)) is not None and self._created is not None:
            self._dated = True
            return began >= self._created
        if self._dated or before is None or line.at is None:
            return False
        return line.at - before >= _PAUSE


def _began(payload: Mapping[str, Any]) -> datetime | None:
    """Return when the turn of a line began, None where that is not said."""
    if (born := _born(text(payload.get("turn_id")))) is not None:
        return born
    started = time(payload.get("started_at"))
    # In whole seconds: the second in which it began may have begun before this thread did.
    return started + _PAUSE if started is not None else None


def _born(id: str | None) -> datetime | None:
    """Return the time that a UUIDv7 holds, None for any other id."""
    try:
        value = UUID(id or "")
    except ValueError:
        return None
    return time(value.int >> 80) if value.version == 7 else None

"""The fold of a file that is rewritten whole: each state of it compared with the one before.

Its places are not bytes but ticks: each message that is new, changed or gone takes the next one,
so that a message is unsent exactly while its tick is above what its reader has. Its rules:

* A message's first revision is one above the conversation's base, 0 unless the database is ahead.
  One that changed, came back or is gone gets one above the highest of the conversation's messages.
* A conversation's revision rises by as much as those of its messages together, or by one where
  only its own row changed: a list that only grows has the same revisions however it was read.
* A conversation that a file does not state, or without messages, is left as it is.
* What was sent already, as the state directory remembers it, has a tick below all that are given
  here: it is sent only when everything is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import orjson

from conv_realtime.core.conversation_fold import ConversationFold, Entry, LogEntry, Span
from conv_realtime.core.document import StatedConversation
from conv_realtime.core.memory import Memory, Rank, Sent
from conv_realtime.core.places import Places
from conv_realtime.core.said import Said, count_message, message_fields, note_conversation
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import Transcript

FIRST_TICK = -(2**62)
"""Before all ticks: a reader that stands here gets everything."""

_NO_NEWS = FIRST_TICK - 2
_NO_TIME = datetime.fromtimestamp(0, UTC)
_DEAD_ENTRIES = 1_000


@dataclass(slots=True)
class Statement:
    """A conversation of a file, folded from its statement alone.

    `digest` is that of its row, `span` where the file states it.
    """

    fold: ConversationFold
    digest: str
    rank: Rank
    span: Span


class DocumentTranscript(Transcript):
    """The fold of one file.

    Attributes:
        tick: the last place that was given.
        bases: by thread, what its revisions begin above.
        digests: by thread, that of the conversation's row.
    """

    def __init__(self, source: str, sanitizer: Sanitizer) -> None:
        super().__init__(sanitizer)
        self.source = source
        self.tick = 0
        self.bases: dict[str | None, int] = {}
        self.digests: dict[str | None, str] = {}
        self._past = FIRST_TICK
        self._past_entries = 0
        self._begins = Places()
        self._ends = Places()

    # One statement -----------------------------------------------------------------------------

    def statement(self, stated: StatedConversation, span: Span, *, named: bool) -> Statement:
        """Return what a statement amounts to; the fold's ticks and revisions are still to come."""
        session, agent = self.id(stated.session), stated.agent and self.id(stated.agent)
        fold = ConversationFold(thread_of(session, agent), agent, session)
        note_conversation(self, fold, stated.noted)
        fold.project_path = fold.cwd or (self.name(stated.project) if stated.project else "")
        if stated.noted.at is not None:
            fold.first_time = stated.noted.at
        weight = (span[1] - span[0]) // max(1, len(stated.messages))
        for native, seq, said in _named(stated.messages):
            entry = fold.begin(Entry(native, said.role, seq, 0, 0, [span]))
            entry.weight = weight
            fold.saw_record(0, said.created_at)
            count_message(self, fold, entry, said)
            entry.digest = _digest([seq, entry.model, said.role, said.content, said.model,
                                    said.created_at, said.usage, said.metadata])  # fmt: skip
        if stated.noted.state is not None:
            fold.settle(*stated.noted.state)
        fold.last_time = fold.last_time or stated.stated_at
        fold.first_time = fold.first_time or stated.stated_at
        fold.metadata = self.clean(dict(stated.metadata))
        fold.secrets.update(self.take_secrets())
        at = stated.stated_at or fold.last_time
        rank = Rank(at.timestamp() if at else 0.0, len(fold.entries), named)
        return Statement(fold, _row_digest(fold), rank, span)

    def message_fields(self, entry: Entry, said: Said) -> dict[str, Any]:
        """Return what a message says, as columns of its row."""
        return message_fields(self, entry, [said])

    # Compared with what was there ----------------------------------------------------------------

    def take(self, statement: Statement, memory: Memory | None) -> bool:
        """Take a conversation's new state; return whether anything changed.

        `memory` is what an earlier process kept of it: asked only for one that is new here.
        """
        fold = statement.fold
        thread = fold.thread
        old = self.conversations.get(thread)
        new = old is None
        if old is None:
            old = self._recall(fold, memory or Memory())
            self.bases[thread] = memory.base if memory else 0
            self.digests[thread] = memory.digest if memory else ""
        before, tick = _sum(old), self.tick
        self._compare(fold, old)
        rowed = self.digests[thread] != statement.digest
        if self.tick == tick and rowed:
            self.tick += 1
        changed = self.tick > tick
        fold.recalled, fold.since = old.recalled, old.since if old.entries else tick
        fold.end = self.tick if changed else old.end
        news = _sum(fold) - before
        fold.revision = (old.revision or 0) + (max(news, 1) if news or rowed else 0)
        self.digests[thread] = statement.digest
        self.conversations[thread] = fold
        if new or fold.since != old.since:
            self._begins.put(fold.since, thread)
        if new or changed:
            self._ends.put(fold.end, thread)
        return changed

    def begun(self, start: int, end: int) -> Iterator[ConversationFold]:
        """Yield the conversations whose first message lies from `start` on and before `end`."""
        for place, thread in self._begins.between(start, end):
            fold = self.conversations.get(thread)
            if fold is not None and fold.since == place:
                yield fold

    def ended(self, start: int, end: int) -> Iterator[ConversationFold]:
        """Yield the conversations that end behind `start`, and not behind `end`."""
        for place, thread in self._ends.between(start + 1, end + 1):
            fold = self.conversations.get(thread)
            if fold is not None and fold.end == place:
                yield fold

    def _recall(self, fold: ConversationFold, memory: Memory) -> ConversationFold:
        """Return the conversation as it was last sent, under ticks of the past.

        Where the database may lack some of it, all of it takes new ticks.
        """
        lowest = memory.base + 1 if memory.base else 0
        old = ConversationFold(fold.thread, fold.agent, fold.session)
        old.revision = max(memory.revision, lowest)
        old.recalled = bool(memory.messages)
        past: list[LogEntry] = []
        for native, known in memory.messages.items():
            entry = Entry(native, "other", 0, _NO_NEWS, 0, [])
            entry.digest, entry.revision = known.digest, max(known.revision, lowest)
            if known.deleted_at is not None:
                entry.deleted_at = datetime.fromtimestamp(known.deleted_at, UTC)
            if memory.unsent:
                entry.end = self._next(fold.thread, native)
            else:
                self._past += 1
                entry.end = self._past
                past.append(LogEntry(entry.end, fold.thread, native, (entry.end, 0)))
            old.entries[native] = entry
        if old.entries:
            old.since = next(iter(old.entries.values())).end - 1
            old.end = self.tick if memory.unsent else self._past
        self.log[self._past_entries : self._past_entries] = past
        self._past_entries += len(past)
        return old

    def _compare(self, fold: ConversationFold, old: ConversationFold) -> None:
        """Give the messages of a new state their ticks and revisions."""
        base = self.bases[fold.thread]
        next_revision = max([base, *(entry.revision or 0 for entry in old.entries.values())]) + 1
        for native, entry in fold.entries.items():
            known = old.entries.get(native)
            if known is None:
                entry.end, entry.revision = self._next(fold.thread, native), base + 1
                entry.since = entry.end - 1
                continue
            entry.since = known.since
            if known.digest == entry.digest and known.deleted_at is None:
                entry.end, entry.revision = known.end, known.revision
            else:
                entry.end, entry.revision = self._next(fold.thread, native), next_revision
        at = fold.last_time or _NO_TIME
        for native, known in old.entries.items():
            if native in fold.entries:
                continue
            if known.deleted_at is None:
                end = self._next(fold.thread, native)
                known = replace(
                    known, deleted_at=at, end=end, revision=next_revision, spans=[], weight=0
                )
            fold.entries[native] = known

    def _next(self, thread: str | None, native: str) -> int:
        self.tick += 1
        self.log.append(LogEntry(self.tick, thread, native, (self.tick, 0)))
        return self.tick

    def drop(self, threads: Iterable[str | None]) -> None:
        """Forget conversations: they are stated elsewhere, or not any more."""
        gone = {thread for thread in threads if self.conversations.pop(thread, None) is not None}
        if gone:
            self.log = [one for one in self.log if one.thread not in gone]
            self._past_entries = sum(one.end < 0 for one in self.log)

    def compact(self) -> None:
        """Forget places of what changed again since, where there are many."""
        folds = self.conversations
        if len(self._ends) > 2 * len(folds) + _DEAD_ENTRIES:
            self._ends.keep(lambda one: one[1] in folds and folds[one[1]].end == one[0])
            self._begins.keep(lambda one: one[1] in folds and folds[one[1]].since == one[0])
        live = sum(len(fold.entries) for fold in self.conversations.values())
        if len(self.log) <= 2 * live + _DEAD_ENTRIES:
            return
        self.log = [
            one
            for one in self.log
            if self.conversations[one.thread].entries[one.native].end == one.end
        ]
        self._past_entries = sum(one.end < 0 for one in self.log)

    # Revisions that others know ------------------------------------------------------------------

    def adopt(self, thread: str | None, revision: int, known: Mapping[str, int]) -> bool:
        """Take the revisions that the database has; return whether any is above ours.

        A row that is sent under the revision that it has there is written where it differs.
        """
        fold = self.conversations[thread]
        above = False
        for native, entry in fold.entries.items():
            if known.get(native, 0) > (entry.revision or 0):
                entry.revision, above = known[native], True
        if revision > (fold.revision or 0):
            fold.revision, above = revision, True
        return above

    def memory(self, thread: str | None, path: str, rank: Rank) -> Memory:
        """Return what is to be kept of a conversation before any of it leaves."""
        fold = self.conversations[thread]
        messages = {
            native: Sent(
                entry.digest,
                entry.revision or 0,
                entry.deleted_at.timestamp() if entry.deleted_at else None,
            )
            for native, entry in fold.entries.items()
        }
        return Memory(
            fold.revision or 0, self.digests[thread], self.bases[thread], messages, True, path, rank
        )


def thread_of(session: str, agent: str | None) -> str:
    """Return the name of a conversation within its file."""
    return json.dumps([session, agent]) if agent else session


def _named(messages: Sequence[Said | None]) -> Iterator[tuple[str, int, Said]]:
    """Yield each message with what identifies it, and its place.

    Without an id of its own, or with one that was there before, its place does.
    """
    seen: set[str] = set()
    for place, said in enumerate(messages):
        if said is None:
            continue
        native = said.native
        if not native or native in seen:
            native = f"@{place}"
        seen.add(native)
        yield native, place, said


def _sum(fold: ConversationFold) -> int:
    return sum(entry.revision or 0 for entry in fold.entries.values())


def _row_digest(fold: ConversationFold) -> str:
    return _digest([
        fold.title, fold.status, fold.activity, fold.model, fold.cwd, fold.git_branch,
        fold.project_path, fold.parent, fold.first_time, fold.last_time, fold.message_count,
        len(fold.tool_ids), fold.tokens, fold.metadata, len(fold.secrets),
    ])  # fmt: skip


def _digest(value: Sequence[Any]) -> str:
    try:
        data = orjson.dumps(value, default=_plain, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # lone surrogates, numbers above 64 bits
        data = json.dumps(value, default=_plain, sort_keys=True).encode()
    return blake2b(data, digest_size=12).hexdigest()


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)

"""Do the files and the database say the same? Told per conversation, in words, and repaired.

Contents are compared by digest, so that a history of any length is read once, from the disk, and
only what differs is read from the database. Nothing is written but by `repair`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

from conv_realtime.background import on_thread
from conv_realtime.core.checkpoint import Checkpoint
from conv_realtime.core.conversation_fold import ConversationFold
from conv_realtime.core.digest import digest, text_sha256
from conv_realtime.core.document import DatabaseFormat, DocumentFormat
from conv_realtime.core.ownership import is_subagent
from conv_realtime.edges import disk
from conv_realtime.errors import SourceError
from conv_realtime.ingest.catching_up import Progress
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.follow_statements import StatementFollower
from conv_realtime.ingest.following import Following
from conv_realtime.ingest.rewriting import find_fit, take_fit
from conv_realtime.ingest.rows import RewrittenError
from conv_realtime.ingest.tender import Tender
from conv_realtime.models import Conversation
from conv_realtime.ports import Digest

logger = logging.getLogger("conv_realtime.ingest")

State = Literal["equal", "different", "missing", "forgotten"]

_ENTRIES = 200  # messages whose rows are built at a time
_LOOKS = 3  # at a file that is being written, or was a moment ago
_MOVING_SECONDS = 5.0
_REWRITTEN = "the file was rewritten since it was sent"


@dataclass(frozen=True, slots=True)
class Verified:
    """A conversation as the files state it, compared with the database.

    `differences` says in words what is not the same; the other fields are for `repair`: `ahead`
    is the database's highest revision where ours would be dropped, else 0; `extra` are messages
    that the files do not state, `part` which conversation of its file it is.
    """

    id: UUID
    path: str
    state: State
    messages: int
    differences: Sequence[str] = ()
    ahead: int = 0
    extra: Mapping[UUID, int] = field(default_factory=dict)
    part: int = 0


@dataclass(frozen=True, slots=True)
class _Line:
    seq: int
    revision: int
    role: str
    text_sha256: str


async def verify(
    desk: Desk, paths: Sequence[Path], on_progress: Callable[[Progress], None]
) -> AsyncIterator[Verified]:
    """Yield every conversation that the files below `paths` state, compared.

    `on_progress` is called after each file.

    Raises:
        SourceError: one of `paths` cannot be read at all.
        StoreError: see `Sender.ask`.
    """
    walked = await on_thread(disk.walk, paths, desk.shelf.is_named)
    for path, reason in walked.odd.items():
        logger.warning("not compared: %s: %s", path, reason)
    found = sorted(walked.stats)
    for path in found:  # who owns what depends on all files
        try:
            await on_thread(desk.shelf.recognise, path, resting=True)
        except SourceError as error:
            _tell_left_out(error)
    read, total = 0, sum([stat.size for stat in walked.stats.values()])
    for number, path in enumerate(found, 1):
        book = desk.shelf.book(path)
        desk.shelf.settle_owner(book)
        if book.key is not None and book.owner is None:
            for verified in await _settled(desk, path):
                yield verified
        read += walked.stats[path].size
        on_progress(Progress(read, total, number, len(found)))


def _tell_left_out(error: SourceError) -> None:
    """Tell of a file that cannot be compared; one that has gone states nothing any more."""
    if disk.stat(error.path) is not None:
        logger.warning("not compared: %s", error)


async def _settled(desk: Desk, path: str) -> list[Verified]:
    """Return the comparison of a file, looking again where it is just being written."""
    for look in range(_LOOKS):
        before = disk.stat(path)
        try:
            found = await _compare(desk, path)
        except SourceError as error:
            _tell_left_out(error)
            return []
        except RewrittenError:  # while its messages were read
            found, before = [], None
        still = before is not None and before == disk.stat(path)
        if before is not None and time.time() - before.mtime_ns / 1e9 < _MOVING_SECONDS:
            still = False
        if still or all(one.state in ("equal", "forgotten") for one in found):
            break
        if look < _LOOKS - 1:
            await asyncio.sleep(1.0)
    return found


async def _compare(desk: Desk, path: str) -> list[Verified]:
    checkpoint = desk.checkpoints.load_one(path)
    follower = desk.follower(path, checkpoint)
    follower.want()
    with disk.open_file(path) as file:
        try:
            await on_thread(_read_whole, follower, file)
        except RewrittenError:
            follower = desk.follower(path, None)
            follower.want()
            await on_thread(_read_whole, follower, file)
            return [
                Verified(id, path, "different", len(fold.standing), [_REWRITTEN])
                for id, fold in follower.rows.conversations()
            ]
        await _fit(desk, follower)
        rows = [follower.rows.conversation(fold) for _, fold in follower.rows.conversations()]
        ids = {row.id for row in rows} | {row.parent_id for row in rows if row.parent_id}
        stored = await desk.ask(lambda: desk.store.digests(ids))
        return [
            Verified(id, path, "forgotten", len(fold.standing))
            if _is_forgotten(row, stored)
            else await _compare_one(desk, follower, fold, file, stored.get(id))
            for row, (id, fold) in zip(rows, follower.rows.conversations(), strict=True)
        ]


async def _fit(desk: Desk, follower: Following) -> None:
    """Have revisions counted as the database does, where nothing here says how."""
    if isinstance(follower, StatementFollower):
        if asked := follower.unknown():
            follower.adopt(asked, await desk.ask(lambda: desk.store.known(asked.values())))
    elif isinstance(follower, Follower) and not follower.settled:
        take_fit(follower, await find_fit(desk, follower, await desk.known(follower)))


def _is_forgotten(row: Conversation, stored: Mapping[UUID, Digest]) -> bool:
    """Return whether a conversation was erased for good, or what it is a subagent of."""
    above = {row.parent_id} if is_subagent(row.agent_id, row.metadata) else set()
    found = (stored.get(id) for id in (row.id, *above) if id is not None)
    return any(one is not None and one.forgotten for one in found)


def _read_whole(follower: Following, file: disk.OpenFile) -> None:
    follower.read_all(file)
    follower.take_rest()


async def _compare_one(
    desk: Desk,
    follower: Following,
    fold: ConversationFold,
    file: disk.OpenFile,
    stored: Digest | None,
) -> Verified:
    row = follower.rows.conversation(fold)
    refused = desk.checkpoints.letters.faults.get(row.id)
    count = len(fold.standing)
    if stored is None:
        words = [f"the database refuses it: {refused.reason}"] if refused else []
        return Verified(row.id, follower.path, "missing", count, words)
    lines = await on_thread(_lines, follower, row, fold, file)
    here = digest((id, *_fields(line)) for id, line in lines.items())
    totals = list(_totals(row, stored))
    if (here, count) == (stored.digest, stored.messages) and not totals:
        return Verified(row.id, follower.path, "equal", count)
    words, ahead, extra = await _differences(desk, row.id, lines)
    if stored.revision > row.revision:
        ahead = max(ahead, stored.revision)
    words += totals
    part = follower.checkpoint.part
    return Verified(row.id, follower.path, "different", count, words, ahead, extra, part)


def _lines(
    follower: Following, row: Conversation, fold: ConversationFold, file: disk.OpenFile
) -> dict[UUID, _Line]:
    """Return the messages of a conversation without their contents."""
    entries = fold.standing
    return {
        message.id: _Line(message.seq, message.revision, message.role, text_sha256(message.text))
        for start in range(0, len(entries), _ENTRIES)
        for message in follower.rows.messages(fold, row, entries[start : start + _ENTRIES], file)
    }


def _fields(line: _Line) -> tuple[int, int, str, str]:
    return line.seq, line.revision, line.role, line.text_sha256


def _totals(row: Conversation, stored: Digest) -> Iterator[str]:
    for name in ("revision", "message_count", "tool_usage_count"):
        ours, theirs = getattr(row, name), getattr(stored, name)
        if ours != theirs:
            yield f"its {name} is {theirs} and not {ours}"


async def _differences(
    desk: Desk, conversation: UUID, lines: dict[UUID, _Line]
) -> tuple[list[str], int, dict[UUID, int]]:
    """Return what is not the same in words, the revision to get above, and what is too much."""
    faults = desk.checkpoints.letters.faults
    counts: Counter[str] = Counter()
    extra: dict[UUID, int] = {}
    ahead = 0
    seen: set[UUID] = set()
    async for message in desk.store.stored_messages(conversation):
        line = lines.get(message.id)
        if line is None:
            if not message.deleted:
                extra[message.id] = message.revision
            continue
        seen.add(message.id)
        if message.revision > line.revision:
            ahead = max(ahead, message.revision)
        if message.deleted:
            counts["marked deleted, and the files state it"] += 1
        elif message.text_sha256 != line.text_sha256:
            counts["with another text"] += 1
        elif message.revision != line.revision:
            lower = message.revision < line.revision
            counts[f"of a {'lower' if lower else 'higher'} revision"] += 1
        elif (message.seq, message.role) != (line.seq, line.role):
            counts["with another place or role"] += 1
    for id in lines.keys() - seen:
        counts["refused by the database" if id in faults else "missing"] += 1
    if extra:
        counts["more than the files state"] += len(extra)
    words = [f"{count} message{'s' * (count > 1)} {what}" for what, count in counts.items()]
    return words, ahead, extra


async def repair(desk: Desk, tender: Tender, found: Collection[Verified]) -> Mapping[str, str]:
    """Send the files of what differs once more; return what was done, by path.

    Where the database has higher revisions than the file states, or messages that it does not
    state, the file is counted from a new base, above all of them, as if it had been rewritten.
    Messages are taken back only where this state directory knows that it has sent the file: one
    that it does not know may be an older copy.
    """
    by_path: dict[str, list[Verified]] = {}
    for one in found:
        if one.state in ("different", "missing"):
            by_path.setdefault(one.path, []).append(one)
    done: dict[str, str] = {}
    for path, group in by_path.items():
        done[path] = _prepare(desk, path, group)
        await tender.catch_up(path, resting=True)
    return done


def _prepare(desk: Desk, path: str, group: Sequence[Verified]) -> str:
    book, checkpoint = desk.shelf.book(path), desk.checkpoints.load_one(path)
    book.follower = None
    if isinstance(book.form, DocumentFormat | DatabaseFormat):
        return _lift(desk, path, group)
    extra = [
        revision
        for one in group
        for revision in one.extra.values()
        if checkpoint is not None and revision > checkpoint.foreign
    ]
    left = sum(len(one.extra) for one in group) - len(extra)
    ahead = max((one.ahead for one in group), default=0)
    if not (ahead or extra):
        desk.resends.add(path)
        done = "sent again"
    else:
        before = checkpoint or Checkpoint()
        base = max(ahead, before.base + before.end, *extra, 0)
        part = max(one.part for one in group)
        desk.save(path, Checkpoint(base=base, part=part, rewritten=bool(extra)))
        done = "sent again under higher revisions"
        if extra:
            done += f", {len(extra)} marked deleted"
    if left:
        done += f"; {left} more than the file states were left: it may be an older copy"
    return done


def _lift(desk: Desk, path: str, group: Sequence[Verified]) -> str:
    """Have a document's conversations sent again. What it does not state is left alone.

    Either it is known here, and marked deleted anyway, or somebody else has sent it.
    """
    desk.resends.add(path)
    ahead = {one.id: max([one.ahead, *one.extra.values()]) for one in group}
    for id, revision in ahead.items():
        if revision:
            desk.checkpoints.documents.lift(id, path, revision)
    done = "sent again under higher revisions" if any(ahead.values()) else "sent again"
    left = sum(len(one.extra) for one in group)
    return done + (f"; {left} messages that it does not state are left alone" if left else "")

"""One file: what it is, what it states, and the work that is going on with it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.core.format import Format, Recognised
from conv_realtime.ingest.following import Following
from conv_realtime.ports import KnownConversation

ConversationKey = tuple[str, str, str | None]
"""Source, session and agent: files with the same key state the same conversation."""


@dataclass(frozen=True, slots=True)
class Unmarked:
    """Conversations whose file was replaced before what it had taken back was marked.

    Attributes:
        conversations: which.
        stated: the messages that the file stated at last.
        told: those that it stated before, with their conversations.
        base: the revision that marks.
        at: the time of its newest record.
    """

    conversations: Collection[UUID]
    stated: frozenset[UUID]
    told: Mapping[UUID, UUID]
    base: int
    at: datetime


@dataclass(slots=True)
class Book:
    """One file: what it is, and the work that is going on with it.

    Attributes:
        form: the format that it is of, once that is known.
        recognised: what its first bytes say; a text is why it is not read, None not yet known.
        owner: the path that states its conversation instead, None when it does itself.
        looked_at: the file's state when its first bytes were read in vain.
        fault: why it could not be read when it was last looked at.
        lock: held while the file is read or rows are built from it.
        generation: rises whenever the file is begun from its start again.
        told_earlier: messages that it stated before it was rewritten, with their conversations:
            those that it states no more are taken back when it rests.
        unmarked: what is still to be marked of conversations that it stated before these.
        replaced: whether an unrelated file waits at the path until the former one is sent.
        unremembered: conversations of which only the database knows what the file stated before it
            was rewritten: it is to be asked.
        remembered: its answers, by conversation; None of one that it does not have.
    """

    path: str
    form: Format | None = None
    recognised: Recognised | str | None = None
    owner: str | None = None
    follower: Following | None = None
    looked_at: FileStat | None = None
    fault: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    generation: int = 0
    told_earlier: dict[UUID, UUID] = field(default_factory=dict)
    unmarked: list[Unmarked] = field(default_factory=list)
    replaced: bool = False
    unremembered: frozenset[UUID] = frozenset()
    remembered: Mapping[UUID, KnownConversation | None] = field(default_factory=dict)
    looking: asyncio.Task[None] | None = None
    look_again: bool = False
    sending: asyncio.Task[None] | None = None
    settling: asyncio.Task[None] | None = None
    rest: asyncio.TimerHandle | None = None

    @property
    def key(self) -> ConversationKey | None:
        """What the file states, None while that is unknown or not to be read."""
        known = self.recognised
        if isinstance(known, Recognised):
            return known.source, known.session, known.agent
        return None

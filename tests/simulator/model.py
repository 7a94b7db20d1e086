"""What must be there in the end, worked out from what was written to the files.

Nothing here calls the library: ids, places and counts follow the definitions of its documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, uuid5

_NAMESPACE = uuid5(NAMESPACE_URL, "conv_realtime")


def an_id(*parts: str) -> str:
    """Return the id of what these parts name."""
    return str(uuid5(_NAMESPACE, json.dumps(parts, separators=(",", ":"))))


@dataclass(frozen=True)
class Said:
    """What one record adds to a message."""

    message: str
    role: str
    text: str
    tokens: int = 0
    tool: str | None = None


@dataclass(frozen=True)
class Record:
    """Bytes as they stand in a file, with the newline that ends them if there is one."""

    data: bytes
    said: Said | None = None


@dataclass
class Told:
    """A message, as all of its records together tell it."""

    seq: int
    end: int
    role: str
    texts: list[str]
    tokens: int

    @property
    def text(self) -> str:
        """What a person would read."""
        return "\n\n".join(self.texts)


@dataclass
class Part:
    """What a file has been from one complete replacement to the next.

    Attributes:
        taken_back: messages that it stated once and does not state now; the value tells whether
            the database surely had them.
        stored: the messages that the database surely has.
        rewritten: whether it ever was anything but appended to.
        pending: whether something was taken back and nobody has seen everything at rest since.
    """

    records: list[Record] = field(default_factory=list)
    taken_back: dict[str, bool] = field(default_factory=dict)
    removed: list[Record] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    rewritten: bool = False
    pending: bool = False

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return b"".join(record.data for record in self.records)

    def told(self) -> dict[str, Told]:
        """Return the messages by their own id, in the order of their first records."""
        found: dict[str, Told] = {}
        for start, end, said in self._places():
            known = found.get(said.message)
            if known is None:
                found[said.message] = Told(start, end, said.role, [said.text], said.tokens)
            else:
                known.end = end
                known.texts.append(said.text)
                known.tokens = max(known.tokens, said.tokens)
        return found

    def tools(self) -> int:
        """Return how many tools were called."""
        return len({record.said.tool for record in self.records if record.said} - {None})

    def rewrite(self, records: list[Record]) -> None:
        """Take other records, at least one of them known, instead of those that there were."""
        before = self.told()
        self.removed += [record for record in self.records if record not in records]
        self.records = records
        now = self.told()
        for message in before.keys() - now.keys():
            self.taken_back[message] = message in self.stored
        for message in now:
            self.taken_back.pop(message, None)
        self.stored &= now.keys()
        self.rewritten = self.pending = True

    def rest(self) -> None:
        """Note that the database has everything."""
        self.stored = set(self.told())
        self.pending = False

    def _places(self) -> Iterator[tuple[int, int, Said]]:
        at = 0
        for record in self.records:
            if record.said is not None:
                yield at, at + len(record.data.rstrip(b"\n")), record.said
            at += len(record.data)


@dataclass
class Talk:
    """One conversation's transcript: a session, or a subagent of one."""

    session: str
    agent: str | None
    cwd: str
    parts: list[Part] = field(default_factory=lambda: [Part()])

    @property
    def part(self) -> Part:
        """What the file is now."""
        return self.parts[-1]


Rows = Mapping[str, Mapping[str, Any]]


class Model:
    """All conversations of one machine and owner, and what has to be in the database of them."""

    def __init__(self, owner: str, machine: str) -> None:
        self.owner = owner
        self.machine = machine
        self.talks: dict[str, Talk] = {}

    def rest(self) -> None:
        """Note that the database has been seen to have everything."""
        for talk in self.talks.values():
            talk.part.rest()

    def conversation_id(self, talk: Talk, part: int) -> str:
        """Return the id of a part of a conversation."""
        agent = f"{talk.agent or ''}@{part}" if part else (talk.agent or "")
        return an_id("conversation", self.owner, "claude_code", self.machine, talk.session, agent)

    def differences(self, conversations: Rows, messages: Rows) -> list[str]:
        """Return in words how the database differs from what it has to be."""
        found: list[str] = []
        by_conversation: dict[str, dict[str, Mapping[str, Any]]] = {}
        for id, message in messages.items():
            by_conversation.setdefault(str(message["conversation_id"]), {})[id] = message
        expected: set[str] = set()
        for name, talk in sorted(self.talks.items()):
            for number, part in enumerate(talk.parts):
                if not part.told():
                    continue
                id = self.conversation_id(talk, number)
                expected.add(id)
                where = f"{name}@{number}"
                row = conversations.get(id)
                if row is None:
                    found.append(f"{where}: its conversation is missing")
                    continue
                rows = by_conversation.pop(id, {})
                found += (f"{where}: {what}" for what in self._part(id, part, row, rows))
                found += (f"{where}: {what}" for what in self._names(talk, number, row))
        found += (f"a conversation too much: {id}" for id in conversations.keys() - expected)
        found += (f"messages of no conversation: {list(rows)}" for rows in by_conversation.values())
        return found

    def _part(
        self, id: str, part: Part, row: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[str]:
        told = part.told()
        ids = {an_id("message", id, message): message for message in (*told, *part.taken_back)}
        bases = set()
        for message_id, stored in rows.items():
            message = ids.get(message_id)
            if message is None:
                yield f"a message too much: {stored['text']!r}"
            elif message not in told:
                if stored["deleted_at"] is None:
                    yield f"{message} was taken back and is there"
            else:
                wanted = told[message]
                bases.add(stored["revision"] - wanted.end)
                yield from _differs(message, wanted, stored)
        for message_id, message in ids.items():
            if message_id not in rows and part.taken_back.get(message, True):
                yield f"{message} is missing" + ", also as deleted" * (message not in told)
        if len(bases) > 1 or min(bases, default=0) < 0 or (bases - {0} and not part.rewritten):
            yield f"revisions count from {sorted(bases)}"
        yield from self._totals(part, row, max(bases, default=0))

    def _totals(self, part: Part, row: Mapping[str, Any], base: int) -> Iterator[str]:
        told = part.told()
        spoken = [one for one in told.values() if one.role in ("user", "assistant")]
        prompts = [one.text for one in told.values() if one.role == "user"]
        wanted = {
            "message_count": len(spoken),
            "tool_usage_count": part.tools(),
            "output_tokens": sum(one.tokens for one in told.values()),
            "title": prompts[0],
            "deleted_at": None,
        }
        for name, value in wanted.items():
            if row[name] != value:
                yield f"{name} is {row[name]!r} and not {value!r}"
        if row["revision"] < base + max(one.end for one in told.values()):
            yield f"its revision {row['revision']} is too low for its messages"

    def _names(self, talk: Talk, number: int, row: Mapping[str, Any]) -> Iterator[str]:
        if number:
            parent: str | None = self.conversation_id(talk, number - 1)
        elif talk.agent:
            parent = self.conversation_id(Talk(talk.session, None, ""), 0)
        else:
            parent = None
        wanted = {
            "parent_id": parent,
            "session_id": talk.session,
            "project_id": an_id("project", self.owner, self.machine, talk.cwd),
        }
        for name, value in wanted.items():
            if row[name] != value:
                yield f"{name} is {row[name]} and not {value}"


def _differs(message: str, wanted: Told, stored: Mapping[str, Any]) -> Iterable[str]:
    if stored["deleted_at"] is not None:
        yield f"{message} is marked deleted"
    tokens = (stored["usage"] or {}).get("output_tokens", 0)
    shown = (stored["seq"], stored["role"], stored["text"], tokens)
    if shown != (wanted.seq, wanted.role, wanted.text, wanted.tokens):
        yield f"{message} is {shown} and not {wanted}"

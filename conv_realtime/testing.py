"""For your own tests: a bridge without server and database, and the lines to feed it.

async with testing.bridge() as b:
    b.append(testing.claude_line("hi"))
    assert (await b.next("new_message")).data.text == "hi"
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

from conv_realtime.bridge import Bridge
from conv_realtime.core.digest import digest, text_sha256
from conv_realtime.errors import StoreError
from conv_realtime.events import DATA_TYPES, DataEvent
from conv_realtime.models import NAMESPACE, Conversation, Message, Project, Row, Table
from conv_realtime.ports import Digest, KnownConversation, StoredMessage

SESSION = "5e551011-0000-4000-8000-000000000001"
"""The session of lines that name none."""

OWNER = uuid5(NAMESPACE, "testing")
"""Who owns the rows of `bridge()`."""


class MemoryStore:
    """A `Store` in memory that keeps rows as the database does.

    A lower revision never replaces a higher one, and a row that is there already counts as not
    written. Set `down` to have every call refused as if the database could not be reached.
    """

    def __init__(self) -> None:
        self.projects: dict[UUID, Project] = {}
        self.conversations: dict[UUID, Conversation] = {}
        self.messages: dict[UUID, Message] = {}
        self.down = False
        self._forgotten: set[UUID] = set()
        self._name = uuid4().hex

    async def database(self) -> str:
        """Return a name that no other store has.

        Raises:
            StoreError: `down` is set.
        """
        self._check("projects")
        return self._name

    async def write(
        self, table: Table, rows: Sequence[Row], *, history: bool = False, more: bool = False
    ) -> int:
        """Upsert `rows`; return how many changed anything.

        Raises:
            StoreError: `down` is set.
        """
        self._check(table)
        return sum(self._keep(getattr(self, table), row) for row in rows)

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Return what is there of `conversations`.

        Raises:
            StoreError: `down` is set.
        """
        self._check("conversations")
        return {
            id: KnownConversation(
                self.conversations[id].revision,
                live={m.id: m.revision for m in self._messages(id) if m.deleted_at is None},
                deleted={m.id: m.revision for m in self._messages(id) if m.deleted_at is not None},
            )
            for id in conversations
            if id in self.conversations
        }

    async def mark_deleted(self, messages: Collection[UUID], revision: int, at: datetime) -> int:
        """Set `deleted_at` and `revision`; return how many messages changed.

        Raises:
            StoreError: `down` is set.
        """
        self._check("messages")
        update = {"deleted_at": at, "revision": revision}
        known = [self.messages[id] for id in messages if id in self.messages]
        return sum(self._keep(self.messages, row.model_copy(update=update)) for row in known)

    async def forgotten(self, owner: UUID, machine: str) -> Collection[UUID]:
        """Return the conversations that `forget` erased.

        Raises:
            StoreError: `down` is set.
        """
        self._check("conversations")
        return set(self._forgotten)

    def forget(self, conversation: UUID) -> None:
        """Erase a conversation: what is written of it from now on is dropped."""
        self._forgotten.add(conversation)
        self.conversations.pop(conversation, None)
        for row in self._messages(conversation):
            del self.messages[row.id]

    async def digests(self, conversations: Collection[UUID]) -> Mapping[UUID, Digest]:
        """Return what is there of `conversations`, in short.

        Raises:
            StoreError: `down` is set.
        """
        self._check("conversations")
        known = self.conversations.keys() | self._forgotten
        return {id: self._digest(id) for id in known & set(conversations)}

    def _digest(self, id: UUID) -> Digest:
        rows = self._messages(id)
        live = [row for row in rows if row.deleted_at is None]
        row = self.conversations.get(id)
        lines = [(m.id, m.seq, m.revision, m.role, text_sha256(m.text)) for m in live]
        return Digest(
            messages=len(live),
            deleted=len(rows) - len(live),
            digest=digest(lines),
            revision=row.revision if row else 0,
            message_count=row.message_count if row else 0,
            tool_usage_count=row.tool_usage_count if row else 0,
            forgotten=id in self._forgotten,
        )

    async def stored_messages(self, conversation: UUID) -> AsyncIterator[StoredMessage]:
        """Yield the messages of a conversation in the order of their ids.

        Raises:
            StoreError: `down` is set.
        """
        self._check("messages")
        for row in sorted(self._messages(conversation), key=lambda row: row.id):
            yield StoredMessage(
                row.id, row.seq, row.revision, row.role, text_sha256(row.text),
                row.deleted_at is not None,
            )  # fmt: skip

    def _messages(self, conversation: UUID) -> list[Message]:
        return [row for row in self.messages.values() if row.conversation_id == conversation]

    def _keep(self, kept: dict[UUID, Any], row: Row) -> bool:
        conversation = row.conversation_id if isinstance(row, Message) else row.id
        if conversation in self._forgotten:
            return False
        known = kept.get(row.id)
        if known is not None and not _replaces(row, known):
            return False
        kept[row.id] = row
        return True

    def _check(self, table: Table) -> None:
        if self.down:
            raise StoreError(table, "ConnectError", "the store is down", retryable=True)


def _replaces(row: Row, known: Row) -> bool:
    if isinstance(row, Project) or isinstance(known, Project):
        return row.to_row() != known.to_row()
    return row.revision >= known.revision and row.to_row() != known.to_row()


class TestBridge:
    """What `bridge()` gives: transcripts to append to, and the events that follow."""

    __test__ = False  # pytest looks for classes of this name

    def __init__(self, running: Bridge, store: MemoryStore, transcripts: Path) -> None:
        self.bridge = running
        self.store = store
        self.transcripts = transcripts
        self._events: asyncio.Queue[DataEvent] = asyncio.Queue()

    def append(self, line: str | bytes, *, session: str | None = None) -> Path:
        """Append `line` to the transcript of its session; return the file."""
        data = line.encode() if isinstance(line, str) else line
        folder = self.transcripts / "-project"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{session or _session_of(data)}.jsonl"
        with path.open("ab") as file:
            file.write(data)
        return path

    async def next(self, type: str, within: float = 10.0, **match: Any) -> Any:
        """Return the next event of `type` whose data has the given values; skips others.

        Raises:
            TimeoutError: none came within `within` seconds.
        """
        async with asyncio.timeout(within):
            while True:
                event = await self._events.get()
                if event.type == type and all(
                    getattr(event.data, name) == value for name, value in match.items()
                ):
                    return event

    async def heard(self, event: DataEvent) -> None:
        """Take an event from the bridge."""
        self._events.put_nowait(event)


@asynccontextmanager
async def bridge(**settings: Any) -> AsyncIterator[TestBridge]:
    """Run a bridge on a temporary folder and a `MemoryStore`; keywords are `Settings` fields."""
    with tempfile.TemporaryDirectory(prefix="conv_realtime-") as folder:
        root, transcripts = _folders(folder)
        store = MemoryStore()
        values = {"state_dir": root / "state", "owner_id": OWNER, "machine": "testing", **settings}
        running = Bridge([transcripts], store=store, **values)
        tested = TestBridge(running, store, transcripts)
        for kind in DATA_TYPES:
            running.on(kind)(tested.heard)
        async with running:
            yield tested


def _folders(folder: str) -> tuple[Path, Path]:
    # Resolved, because a watcher reports real paths and a temporary folder may be a link.
    root = Path(folder).resolve()
    transcripts = root / "projects"
    transcripts.mkdir()
    return root, transcripts


def claude_line(
    text: str,
    role: str = "user",
    *,
    session: str = SESSION,
    message_id: str | None = None,
    model: str = "claude-test",
    **fields: Any,
) -> bytes:
    """Return a line of a Claude Code transcript, with its newline.

    Lines of role `assistant` with the same `message_id` are one message. `fields` replace or add
    fields of the record, such as `cwd`, `timestamp`, `isSidechain` or `type`.
    """
    message: dict[str, Any] = {"role": role, "content": text}
    if role == "assistant":
        message = {
            "id": message_id or f"msg_{uuid4().hex}",
            "type": "message",
            "role": role,
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    record: Mapping[str, Any] = {
        "type": role,
        "uuid": str(uuid4()),
        "parentUuid": None,
        "sessionId": session,
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "cwd": "/project",
        "version": "2.1.0",
        "isSidechain": False,
        "userType": "external",
        "message": message,
        **fields,
    }
    return json.dumps(record).encode() + b"\n"


def _session_of(line: bytes) -> str:
    try:
        record = json.loads(line)
    except ValueError:
        return SESSION
    session = record.get("sessionId") if isinstance(record, dict) else None
    return session if isinstance(session, str) else SESSION

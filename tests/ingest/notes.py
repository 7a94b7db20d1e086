"""A document format of the tests' own, and files of it: what an invented assistant would write."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from conv_realtime.core.document import Export, JsonDocument, StatedConversation
from conv_realtime.core.fields import time
from conv_realtime.core.said import Noted, Said
from conv_realtime.ingest import Ingest, Summary
from conv_realtime.models import Message
from conv_realtime.testing import MemoryStore
from tests.ingest.running import ingest

DAY = "2026-03-01T10:00:"


def note(id: str | None, says: str, who: str = "user", **more: Any) -> dict[str, Any]:
    """Gives a message; without an id its place identifies it."""
    return {"id": id, "who": who, "says": says, **more}


def chat(*messages: Mapping[str, Any], session: str = "c1", **more: Any) -> dict[str, Any]:
    """Gives a session."""
    return {"chat": session, **more, "notes": list(messages)}


def data(value: Any) -> bytes:
    """Gives a file's bytes."""
    return json.dumps(value, indent=1).encode()


def _stated(value: Any) -> Iterable[StatedConversation]:
    if isinstance(value, dict) and "chat" in value:
        messages = [
            Said(
                one["who"], one["says"], one.get("id"), created_at=time(one.get("at")),
                usage={"output_tokens": one["tokens"]} if "tokens" in one else {},
            )
            if one.get("says") is not None
            else None
            for one in value["notes"]
        ]  # fmt: skip
        noted = Noted(title=value.get("title"), cwd=value.get("in"))
        yield StatedConversation(
            value["chat"], messages, noted=noted, stated_at=time(value.get("written"))
        )


class Notes(JsonDocument):
    """One session a file."""

    source = "notes"
    title = "Notes"

    def session(self, path: PurePath, fields: Mapping[str, Any]) -> str | None:
        return fields.get("chat")

    def conversations(self, value: Any, path: PurePath) -> Iterable[StatedConversation]:
        return _stated(value)


class Notebook(Export):
    """Many of them."""

    source = "notebook"
    title = "Notebook"

    def is_conversation(self, names: Collection[str]) -> bool | None:
        return True if "chat" in names else None

    def conversations(self, value: Any, path: PurePath) -> Iterable[StatedConversation]:
        return _stated(value)


FORMATS = (Notes(), Notebook())


def notes_ingest(folder: Path, store: Any, sink: Any = None, **settings: Any) -> Ingest:
    """Makes an ingest of `folder/notes` with its state beside it."""
    values = {"paths": [folder / "notes"], "formats": FORMATS, **settings}
    return ingest(folder, store, sink, **values)


def put(folder: Path, value: Any, name: str = "c1.json") -> Path:
    """Writes a file anew; gives its path."""
    path = folder / "notes" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else data(value))
    return path


async def read(folder: Path, store: Any, **settings: Any) -> Summary:
    """Reads everything once, by a process of its own."""
    async with notes_ingest(folder, store, **settings) as river:
        return await river.backfill()


def texts(store: MemoryStore) -> list[tuple[int, str]]:
    """Gives place and text of the messages of a store that stand."""
    return says(list(store.messages.values()))


def by_text(store: MemoryStore) -> dict[str, Message]:
    """Gives the messages of a store by their texts."""
    return {row.text: row for row in store.messages.values()}


def says(messages: Sequence[Any]) -> list[tuple[int, str]]:
    """Gives place and text of the messages that stand."""
    live = [row for row in messages if row.deleted_at is None]
    return sorted((row.seq, row.text) for row in live)

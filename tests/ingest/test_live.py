"""Lines that come while files are watched: at listeners at once, and in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from conv_realtime.models import Conversation, Project, Row, Table
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import OTHER, SESSION, assistant, says, user, uuid
from tests.ingest.running import Heard, ingest, running, texts, until, write


async def test_an_appended_line_reaches_sink_and_store(tmp_path: Path) -> None:
    """Also in a folder that is itself new, and a conversation comes before its messages."""
    store, heard = MemoryStore(), Heard()
    (tmp_path / "projects").mkdir()
    async with running(ingest(tmp_path, store, heard)):
        path = write(tmp_path, user("q"), name=f"deep/er/still/{SESSION}.jsonl")
        await until(lambda: store.messages)
        with path.open("ab") as file:
            file.write(assistant("a", "m"))
        await until(lambda: len(store.messages) == 2)
    kinds = [(type(c.row).__name__, c.created) for c in heard.changes]
    assert kinds[:3] == [("Project", True), ("Conversation", True), ("Message", True)]
    assert kinds[-2:] == [("Message", True), ("Conversation", False)]
    assert heard.texts() == ["prompt q", "answer a"]
    assert (str(path), "modified", path.stat().st_size) in heard.files


async def test_a_first_line_is_read_before_its_newline_is_there(tmp_path: Path) -> None:
    """When the file has come to rest; no sweep has to come by."""
    store = MemoryStore()
    river = ingest(tmp_path, store, rest_seconds=0.1, sweep_seconds=3600)
    async with running(river) as river:
        await until(lambda: river.caught_up)
        write(tmp_path, user("only")[:-1])
        await until(lambda: len(store.messages) == 1)


async def test_inline_subagents_and_late_lines_of_a_response(tmp_path: Path) -> None:
    """Children are written beside their parent, and a late block revises its message once."""
    store = MemoryStore()
    path = write(tmp_path, user("q"), user("s1", isSidechain=True), assistant("a", "m", says("x")))
    async with running(ingest(tmp_path, store)):
        await until(lambda: len(store.messages) == 3)
        with path.open("ab") as file:
            file.write(user("s2", isSidechain=True, parentUuid=uuid("s1")))
            file.write(assistant("b", "m", says("y")))
        await until(lambda: len(store.messages) == 4)
        await until(lambda: "x\n\ny" in texts(store))
    main, child = sorted(store.conversations.values(), key=lambda row: row.agent_id or "")
    assert (main.message_count, child.message_count, child.parent_id) == (2, 2, main.id)


async def test_a_project_stays_as_new_as_its_newest_conversation(tmp_path: Path) -> None:
    """An older transcript that is found later takes neither its time nor its state back."""
    store, heard = MemoryStore(), Heard()
    now = datetime.now(UTC)
    write(tmp_path, user("q", timestamp=now.isoformat()))
    async with running(ingest(tmp_path, store, heard)):
        await until(lambda: len(store.messages) == 1)
        write(tmp_path, user("p", session=OTHER), name=f"-p/{OTHER}.jsonl")
        await until(lambda: len(store.messages) == 2)
    told = [c.row for c in heard.changes if isinstance(c.row, Project)]
    assert [(row.updated_at, row.status) for row in told] == [(now, "active")] * 2
    assert [row.conversation_count for row in told] == [1, 2]


async def test_thousands_of_new_files_ask_the_store_a_few_at_a_time(tmp_path: Path) -> None:
    """All at once they would wait for a connection until they time out, and ask again."""

    class Counting(MemoryStore):
        asking = most = 0

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            asks = isinstance(rows[0], Conversation) and rows[0].revision == 0
            self.asking += asks
            self.most = max(self.most, self.asking)
            await asyncio.sleep(0)
            self.asking -= asks
            return await super().write(table, rows, **hints)

    store = Counting()
    (tmp_path / "projects").mkdir()
    async with running(ingest(tmp_path, store, concurrency=4)):
        for number in range(50):
            write(tmp_path, user(number, session=uuid(number)), name=f"-p/{uuid(number)}.jsonl")
        await until(lambda: len(store.messages) == 50)
    assert 1 < store.most <= 4

"""A row that the database refuses: alone, named, not shown as live, and taken back when it may."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from conv_realtime.edges.checkpoints import survey
from conv_realtime.errors import SourceError
from conv_realtime.models import Conversation, Message, Project, Row, Table
from tests.ingest.lines import OTHER, SESSION, assistant, prompts, says, user
from tests.ingest.running import Heard, backfill, letters, running, texts, until
from tests.ingest.running import ingest as ingest_of
from tests.ingest.running import write as transcript
from tests.ingest.stores import Strict, of, on, saying


async def test_one_row_of_a_batch_is_found_and_parked(tmp_path: Path) -> None:
    """Everything else is written; the letter says which, where, why and since when."""
    said = [f"p{n}" for n in range(40)]
    path = transcript(tmp_path, *prompts(*said))
    store = Strict(saying("p7", "p31"))
    async with ingest_of(tmp_path, store) as ingest:
        await ingest.backfill()
        found = letters(ingest)
        assert ingest.health()["dead_letters"] == 2
        assert ingest.health()["last_error"] is None
    assert texts(store) == [text for text in said if text not in ("p7", "p31")]
    assert {fault.id for fault in found}.isdisjoint(store.messages)
    assert {(one.table, one.path, one.code, one.reason) for one in found} == {
        ("messages", str(path), "23514", "refused")
    }
    assert all(one.since and one.revision for one in found)
    async with ingest_of(tmp_path, store) as ingest:
        assert letters(ingest) == found


async def test_a_refused_message_does_not_stay_shown(tmp_path: Path) -> None:
    """Listeners hear that it is gone, and a snapshot does not have it."""
    store, heard = Strict(saying("bad")), Heard()
    transcript(tmp_path, *prompts("good", "bad", "fine"))
    async with running(ingest_of(tmp_path, store, heard)) as ingest:
        await until(lambda: letters(ingest))
        await until(lambda: [c for c in heard.changes if getattr(c.row, "deleted_at", None)])
        (conversation,) = await ingest.transcripts.conversations()
        shown = await ingest.transcripts.messages(conversation.id, 9)
    (fault,) = letters_of(heard)
    said = next(c.row for c in heard.changes if isinstance(c.row, Message) and c.row.text == "bad")
    assert (fault.id, fault.revision) == (said.id, said.revision)
    assert [row.text for row in shown] == ["good", "fine"]


def letters_of(heard: Heard) -> list[Message]:
    """Return what was announced as deleted."""
    rows = [change.row for change in heard.changes]
    return [row for row in rows if isinstance(row, Message) and row.deleted_at]


def answer(text: str) -> bytes:
    """Return a line of one response."""
    return assistant(text, "m", says(text))


async def test_a_row_that_changes_is_tried_again(tmp_path: Path) -> None:
    """Its letter goes when it is taken."""

    store, heard = Strict(saying("one")), Heard()
    path = transcript(tmp_path, user("q"), answer("one"))
    async with running(ingest_of(tmp_path, store, heard)) as ingest:
        await until(lambda: letters(ingest))
        with path.open("ab") as file:
            file.write(answer("two"))
        await until(lambda: texts(store) == ["prompt q", "one\n\ntwo"])
        await until(lambda: not letters(ingest))
    assert heard.texts()[-1] == "one\n\ntwo"


async def test_a_row_that_changes_is_in_snapshots_before_it_is_taken(tmp_path: Path) -> None:
    """It was told of when it changed, and who has a snapshot of then is told no more."""
    shown: list[Message] = []

    class Slow(Strict):
        """A store that takes a changed row while somebody asks for a snapshot."""

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            """Ask, and write."""
            if any(saying("one\n\ntwo")(row) for row in rows):
                (conversation,) = await ingest.transcripts.conversations()
                shown.extend(await ingest.transcripts.messages(conversation.id, 9))
            return await super().write(table, rows, **hints)

    store, heard = Slow(saying("one")), Heard()
    path = transcript(tmp_path, user("q"), answer("one"))
    async with running(ingest_of(tmp_path, store, heard)) as ingest:
        await until(lambda: letters(ingest))
        with path.open("ab") as file:
            file.write(answer("two"))
        await until(lambda: not letters(ingest))
    assert [row.text for row in shown] == ["prompt q", "one\n\ntwo"]


async def test_a_retry_takes_what_may_be_taken_now(tmp_path: Path) -> None:
    """The rest stays; nothing else is written twice."""
    store = Strict(saying("bad", "worse"))
    transcript(tmp_path, *prompts("good", "bad", "worse"))
    async with ingest_of(tmp_path, store) as ingest:
        await ingest.backfill()
    store.poison = saying("worse")
    async with ingest_of(tmp_path, store) as ingest:
        (left,) = await ingest.retry()
    assert texts(store) == ["good", "bad"]
    assert left.id not in store.messages
    assert (await backfill(tmp_path, store)).changed == 0


async def test_a_retry_by_another_process_is_shown_by_the_running_one(tmp_path: Path) -> None:
    """`conv-realtime retry` beside `up`: what was withdrawn comes back to its listeners."""
    store, heard = Strict(saying("bad")), Heard()
    transcript(tmp_path, *prompts("good", "bad"))
    async with running(ingest_of(tmp_path, store, heard)) as ingest:
        await until(lambda: letters_of(heard))
        told = len(heard.texts())
        store.poison = saying()
        async with ingest_of(tmp_path, store) as other:
            assert await other.retry() == []
        await until(lambda: "bad" in heard.texts()[told:])
        assert letters(ingest) == []


async def test_letters_move_with_their_transcript(tmp_path: Path) -> None:
    """A retry finds their rows where they are now, and so does who hears of it."""
    store, heard = Strict(saying("bad")), Heard()
    path = transcript(tmp_path, *prompts("good", "bad"))
    async with running(ingest_of(tmp_path, store, heard)) as ingest:
        await until(lambda: letters_of(heard))
        (moved := path.parents[1] / "-q" / path.name).parent.mkdir()
        path.rename(moved)
        await until(lambda: [one.path for one in letters(ingest)] == [str(moved)])
        told = len(heard.texts())
        store.poison = saying()
        async with ingest_of(tmp_path, store) as other:
            assert await other.retry() == []
        await until(lambda: "bad" in heard.texts()[told:])


async def test_a_retry_knows_of_letters_that_went_with_their_lines(tmp_path: Path) -> None:
    """The running one has read the rewritten file before the other one looks at it."""
    store = Strict(saying("bad"))
    path = transcript(tmp_path, *prompts("good", "bad"))
    async with running(ingest_of(tmp_path, store)) as ingest:
        await until(lambda: letters(ingest))
        async with ingest_of(tmp_path, store) as other:
            transcript(tmp_path, *prompts("good"))
            await until(lambda: not survey(tmp_path / "state").dead_letters)
            assert [fault.path for fault in other.dead_letters] == [str(path)]
            assert await other.retry() == []


async def test_one_that_is_taken_meanwhile_hides_no_retry_by_another_process(
    tmp_path: Path,
) -> None:
    """What the running one has to tell again for a retry stays to be told."""
    heard = Heard()

    class Retried(Strict):
        """A store that has another process retry a file just before it takes a changed row."""

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            """Have the file be due once more, and write."""
            if any(isinstance(row, Message) and "two" in row.text for row in rows):
                assert ingest._desk is not None
                ingest._desk.resends.add(str(path))
                heard.changes.clear()
            return await super().write(table, rows, **hints)

    store = Retried(saying("one"))
    path = transcript(tmp_path, user("q"), answer("one"))
    async with running(ingest_of(tmp_path, store, heard)) as ingest:
        await until(lambda: letters(ingest) and ingest.health()["queue"] == 0)
        with path.open("ab") as file:
            file.write(answer("two"))
        await until(lambda: heard.texts() == ["prompt q", "one\n\ntwo"])


async def test_what_was_given_up_stays_so_beside_a_running_one(tmp_path: Path) -> None:
    """`conv-realtime retry --discard` beside `up`: not tried, not shown, not told of, until it
    changes or is asked for by name."""
    store, heard = Strict(saying("bad")), Heard()
    path = transcript(tmp_path, *prompts("good", "bad"))
    async with running(ingest_of(tmp_path, store, heard)) as ingest:
        await until(lambda: letters_of(heard))
        told = heard.texts().count("bad")
        async with ingest_of(tmp_path, store) as other:
            assert other.discard() == 1
            assert (other.discard(), other.dead_letters, await other.retry()) == (0, [], [])
        await until(lambda: not ingest.dead_letters)
        assert ingest.health()["dead_letters"] == 0
        assert list(survey(tmp_path / "state").dead_letters) == []
        with path.open("ab") as appended:
            appended.write(user(2, "fine", at=2))
        await until(lambda: "fine" in texts(store))
        (conversation,) = await ingest.transcripts.conversations()
        shown = await ingest.transcripts.messages(conversation.id, 9)
        assert [row.text for row in shown] == ["good", "fine"]
        assert (heard.texts().count("bad"), ingest.dead_letters) == (told, [])
        (given_up,) = letters(ingest)
        async with ingest_of(tmp_path, store) as other:
            (again,) = await other.retry([given_up.id])  # by name: and it is told of again
            assert (again.id, again.code) == (given_up.id, "23514")
            store.poison = saying()
            assert await other.retry([given_up.id]) == []
            with pytest.raises(SourceError, match="is no dead letter"):
                await other.retry([given_up.id])
        assert texts(store) == ["good", "bad", "fine"]
        await until(lambda: not letters(ingest))


async def test_a_refused_conversation_holds_its_messages_back(tmp_path: Path) -> None:
    """They are sent when it is taken, also after a restart, and other files never wait."""
    store = Strict(on("poison"))
    transcript(tmp_path, *prompts("a", "b", gitBranch="poison"))
    transcript(tmp_path, *prompts("c", session=OTHER), name=f"-p/{OTHER}.jsonl")
    async with asyncio.timeout(20), ingest_of(tmp_path, store) as ingest:
        await ingest.backfill()
        (fault,) = letters(ingest)
        assert fault.table == "conversations"
        assert texts(store) == ["c"]
        assert store.asked < 20
    async with asyncio.timeout(20), ingest_of(tmp_path, store) as ingest:
        path = tmp_path / "projects" / "-p" / f"{SESSION}.jsonl"
        path.write_bytes(path.read_bytes() + user("d", "d", at=9, gitBranch="poison"))
        await ingest.backfill()
        assert texts(store) == ["c"]
        store.poison = on("nothing")
        assert await ingest.retry() == []
    assert sorted(texts(store)) == ["a", "b", "c", "d"]


async def test_a_refused_conversation_does_not_stay_shown(tmp_path: Path) -> None:
    """Listeners hear that it is gone; when it is taken they hear all of it again."""
    store, heard = Strict(on("poison")), Heard()
    path = transcript(tmp_path, *prompts("a", "b", gitBranch="poison"))
    async with running(ingest_of(tmp_path, store, heard)) as ingest:
        await until(lambda: letters(ingest))
        await until(lambda: len(letters_of(heard)) == 2)
        last = [c.row for c in heard.changes if isinstance(c.row, Conversation)][-1]
        assert last.deleted_at is not None
        assert await ingest.transcripts.conversations() == []
        with path.open("ab") as file:
            file.write(user("c", "c", at=9))  # on another branch, so the row changes
        await until(lambda: texts(store) == ["a", "b", "c"])
        await until(lambda: not letters(ingest))
        await until(lambda: set(heard.texts()[-3:]) == {"a", "b", "c"})
        assert len(await ingest.transcripts.conversations()) == 1


async def test_a_refused_project_holds_its_conversations_back(tmp_path: Path) -> None:
    """In every file, until it is taken."""
    store = Strict(of)
    for session in (SESSION, OTHER):
        transcript(tmp_path, *prompts(session, session=session), name=f"-p/{session}.jsonl")
    async with asyncio.timeout(20), ingest_of(tmp_path, store) as ingest:
        await ingest.backfill()
        assert sorted(fault.table for fault in letters(ingest)) == [
            "conversations", "conversations", "projects"
        ]  # fmt: skip
        store.poison = on("nothing")
        project = next(fault.id for fault in letters(ingest) if fault.table == "projects")
        assert await ingest.retry([project]) == []
    assert sorted(texts(store)) == sorted((SESSION, OTHER))


async def test_a_file_that_is_due_again_while_it_is_retried_is_sent_again(tmp_path: Path) -> None:
    """Its project is taken with another file, after its conversation has waited for it in vain."""

    class Crossing(Strict):
        """A store that takes the other file's rows between two writes of the first one's."""

        crosses = False

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            """Wait for the other file where that is to be first, and write."""
            if self.crosses and any(isinstance(row, Conversation) and row.agent_id for row in rows):
                waited.set()
                await taken.wait()
            elif self.crosses and table == "projects" and len(rows) == 1:
                await waited.wait()
            written = await super().write(table, rows, **hints)
            if any(saying("other")(row) for row in rows):
                taken.set()
            return written

    waited, taken = asyncio.Event(), asyncio.Event()
    store = Crossing(lambda row: isinstance(row, Project) and row.path == "/home/ada/garden")
    child = user("s", "below", isSidechain=True, cwd="/elsewhere")
    transcript(tmp_path, *prompts("first"), child)
    transcript(tmp_path, *prompts("other", session=OTHER), name=f"-p/{OTHER}.jsonl")
    async with ingest_of(tmp_path, store) as ingest:
        await ingest.backfill()
        assert texts(store) == ["below"]
    store.crosses, store.poison = True, saying()
    async with asyncio.timeout(20), ingest_of(tmp_path, store) as ingest:
        assert await ingest.retry() == []
    assert sorted(texts(store)) == ["below", "first", "other"]


async def test_a_parent_that_never_comes_is_a_row_that_is_refused(tmp_path: Path) -> None:
    """A trigger of the project's that drops conversations in silence must not block for ever."""

    class Dropping(Strict):
        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            kept = [row for row in rows if not on("gone")(row)]
            return await super().write(table, kept, **hints)

    store = Dropping(saying())
    transcript(tmp_path, *prompts("a", gitBranch="gone"))
    transcript(tmp_path, *prompts("c", session=OTHER), name=f"-p/{OTHER}.jsonl")
    async with asyncio.timeout(20), ingest_of(tmp_path, store) as ingest:
        await ingest.backfill()
        (fault,) = letters(ingest)
    assert (fault.table, fault.code, texts(store)) == ("messages", "23503", ["c"])


async def test_nor_one_that_is_missing_far_into_a_file(tmp_path: Path) -> None:
    """The file is sent once more from its start, and not over and over."""

    class Dropping(Strict):
        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            kept = [r for r in rows if not (isinstance(r, Conversation) and r.agent_id)]
            return await super().write(table, kept, **hints)

    store = Dropping(saying())
    lines = prompts(*(f"p{n}" for n in range(9)))
    transcript(tmp_path, *lines, user("s", "below", isSidechain=True), *prompts("last")[-1:])
    async with asyncio.timeout(20), ingest_of(tmp_path, store, batch_rows=2) as ingest:
        await ingest.backfill()
        (fault,) = letters(ingest)
    assert (fault.table, fault.code, len(texts(store))) == ("messages", "23503", 9)
    assert store.asked < 60


async def test_a_letter_that_cannot_be_kept_moves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk a refused row would otherwise be passed over and forgotten."""
    monkeypatch.setattr("conv_realtime.ingest.sending.LATER_SECONDS", 0.01)
    store = Strict(saying("bad"))
    path = transcript(tmp_path, *prompts("a"))
    async with running(ingest_of(tmp_path, store)) as ingest:
        await until(lambda: texts(store) == ["a"])
        assert ingest._desk is not None
        database = ingest._desk.checkpoints._db
        database.execute("pragma query_only = on")
        path.write_bytes(path.read_bytes() + user("bad", "bad"))
        await until(lambda: ingest.health()["last_error"] is not None)
        asked = store.asked
        await until(lambda: store.asked > asked + 5)
        database.execute("pragma query_only = off")
        await until(lambda: ingest.health()["last_error"] is None)
        await until(lambda: ingest.health()["queue"] == 0)
    async with ingest_of(tmp_path, store) as ingest:
        (fault,) = letters(ingest)
    assert isinstance(fault.id, UUID)

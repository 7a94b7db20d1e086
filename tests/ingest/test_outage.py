"""The store away: listeners hear on, nothing piles up, and everything arrives once."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from conv_realtime.errors import StoreError
from conv_realtime.ingest import Ingest, catching_up
from conv_realtime.ingest.batches import Batch
from conv_realtime.ingest.pace import waits
from conv_realtime.local import LocalSupabase
from conv_realtime.models import Row, Table
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import assistant, user, uuid
from tests.ingest.running import Heard, ingest, running, texts, until
from tests.ingest.running import write as transcript
from tests.project import Owner
from tests.relay.proxy import Proxy


async def test_however_many_files_wait_few_batches_exist(tmp_path: Path) -> None:
    """The files are the queue: what cannot be sent lies there and not in memory."""
    store, heard = MemoryStore(), Heard()
    (tmp_path / "projects").mkdir()
    async with running(ingest(tmp_path, store, heard, concurrency=3)) as river:
        store.down = True
        for number in range(80):
            session = uuid(number)
            lines = (user(f"{number} {n}", "x" * 2000, session=session) for n in range(5))
            transcript(tmp_path, *lines, name=f"-p/{session}.jsonl")
        await until(lambda: len(heard.texts()) == 400)
        await until(lambda: river.health()["last_error"] is not None)
        assert river.health()["queue"] == 400
        assert river._desk is not None
        joint = river._desk.questions
        await until(lambda: len(joint._waiting) == 80 - 2)  # all but those that are asked
        gc.collect()
        waiting = [found for found in gc.get_objects() if isinstance(found, Batch)]
        assert len(waiting) <= 3
        store.down = False
        await until(lambda: len(store.messages) == 400)
        await until(lambda: river.health()["queue"] == 0)
    assert len(heard.texts()) == 400


async def test_a_store_that_is_away_is_not_stormed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts do not grow with the number of files, and come ever more rarely."""

    class Away(MemoryStore):
        asked = 0

        def _check(self, table: Table) -> None:
            self.asked += 1
            super()._check(table)

    pauses: list[float] = []
    real_timeout = asyncio.timeout

    def timeout(delay: float | None) -> asyncio.Timeout:
        if delay is not None and delay < 30:
            pauses.append(delay)
        return real_timeout(delay and delay / 100)

    store = Away()
    (tmp_path / "projects").mkdir()
    async with running(ingest(tmp_path, store, concurrency=2, sweep_seconds=3600)) as river:
        await until(lambda: store.asked > 0)
        store.down = True
        monkeypatch.setattr("conv_realtime.ingest.asking.asyncio.timeout", timeout)
        for number in range(40):
            session = uuid(number)
            transcript(tmp_path, user(number, session=session), name=f"-p/{session}.jsonl")
        asked = store.asked
        # Our own wait is divided, too, and is no pause.
        await until(lambda: max(pauses, default=0) > 7, within=6000)
        assert store.asked - asked < 60
        store.down = False
        await until(lambda: len(store.messages) == 40, within=6000)
        assert river.health()["queue"] == 0
    assert {round(pause, 3) for pause in pauses} != {0.1}, "no jitter"


def test_waits_double_up_to_ten_seconds() -> None:
    """An outage of a day is asked about every ten seconds."""
    pauses = waits()
    for usual in [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]:
        assert next(pauses) == pytest.approx(usual, rel=0.25)


async def test_the_sink_hears_while_the_store_is_away(tmp_path: Path) -> None:
    """Local listeners do not wait for the cloud, and the cloud gets everything when it is back."""
    store, heard = MemoryStore(), Heard()
    (tmp_path / "projects").mkdir()
    async with running(ingest(tmp_path, store, heard)) as river:
        store.down = True
        path = transcript(tmp_path, user("q"))
        await until(lambda: heard.texts() == ["prompt q"])
        with path.open("ab") as file:
            file.write(user("r"))
        await until(lambda: heard.texts() == ["prompt q", "prompt r"])
        await until(lambda: river.health()["last_error"] is not None)
        health = river.health()
        assert (health["queue"], store.messages) == (2, {})
        assert health["lag_seconds"] > 0
        store.down = False
        await until(lambda: len(store.messages) == 2)
        await until(lambda: river.health()["queue"] == 0)
        assert river.health()["last_error"] is None


async def test_all_files_of_a_start_are_told_while_the_store_is_away(tmp_path: Path) -> None:
    """However few are sent at the same time: a snapshot has every conversation."""
    store, heard = MemoryStore(), Heard()
    store.down = True
    for number in range(9):
        transcript(tmp_path, user(number, session=uuid(number)), name=f"-p/{uuid(number)}.jsonl")
    async with running(ingest(tmp_path, store, heard, concurrency=2)) as river:
        await until(lambda: len(heard.texts()) == 9)
        assert len(await river.conversations()) == 9
        assert not river.caught_up
        store.down = False
        await until(lambda: river.caught_up)
        assert len(store.messages) == 9


async def test_only_so_many_files_are_read_ahead_of_a_store_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest; the files are the queue, and memory does not grow with their number."""
    monkeypatch.setattr(catching_up, "MOST_AHEAD", 5)
    store, heard = MemoryStore(), Heard()
    store.down = True
    for number in range(12):
        path = f"-p/{uuid(number)}.jsonl"
        os.utime(transcript(tmp_path, user(number, session=uuid(number)), name=path), (0, number))
    async with running(ingest(tmp_path, store, heard, concurrency=1)) as river:
        await until(lambda: len(heard.texts()) == 5)
        await asyncio.sleep(0.3)
        assert heard.texts() == [f"prompt {number}" for number in range(11, 6, -1)]
        store.down = False
        await until(lambda: river.caught_up)
        assert len(store.messages) == 12


async def test_a_file_that_was_rewritten_meanwhile_holds_up_nobody(tmp_path: Path) -> None:
    """What it was, only the store knows, which is away: others are told, and snapshots taken."""
    store, heard = MemoryStore(), Heard()
    sessions = [uuid(number) for number in range(3)]
    paths = [
        transcript(tmp_path, user(one), user(f"{one} r"), name=f"-p/{one}.jsonl")
        for one in sessions
    ]
    async with running(ingest(tmp_path, store, Heard())) as river:
        await until(lambda: river.caught_up)
    store.down = True
    paths[0].write_bytes(user(sessions[0]))
    paths[1].write_bytes(user("of another"))
    with paths[2].open("ab") as file:
        file.write(user("news"))
    os.utime(paths[2], (0, 0))  # looked at behind the others
    async with running(ingest(tmp_path, store, heard, concurrency=1)) as river:
        await until(lambda: heard.texts() == ["prompt news"])
        async with asyncio.timeout(30):
            shown = {
                row.session_id: await river.messages(row.id, 9)
                for row in await river.conversations()
            }
        assert [len(shown[one]) for one in sessions] == [0, 0, 3]
        store.down = False
        await until(lambda: river.caught_up)
        await until(lambda: sum(row.deleted_at is not None for row in store.messages.values()) == 1)
        await until(lambda: {f"prompt {sessions[0]}", "prompt of another"} < set(heard.texts()))
    assert len(store.conversations) == 4
    assert f"prompt {sessions[0]} r" not in texts(store)


async def test_an_outage_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line when it begins and one when it ends, not one for each attempt of each file."""

    class Away(MemoryStore):
        refused = 0

        def _check(self, table: Table) -> None:
            self.refused += self.down
            super()._check(table)

    store = Away()
    store.down = True
    for number in range(3):
        transcript(tmp_path, user(number, session=uuid(number)), name=f"-p/{uuid(number)}.jsonl")
    async with running(ingest(tmp_path, store)) as river:
        await until(lambda: river.health()["queue"] == 3)
        await until(lambda: store.refused > 6)
        store.down = False
        await until(lambda: len(store.messages) == 3)
    told = [text for text in caplog.messages if text.startswith(("store: ", "the store "))]
    assert len(told) == 2
    assert told[0].endswith("ConnectError: the store is down; trying again until it answers")
    assert told[1] == "the store answers again"


async def test_who_is_meant_to_end_gives_up_on_a_store_that_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address may be wrong, and nobody is there to see; the next one sends all the same."""
    monkeypatch.setattr("conv_realtime.ingest.pace.FIRST_ANSWER", 0.2)
    store = MemoryStore()
    store.down = True
    transcript(tmp_path, user("q"))
    async with ingest(tmp_path, store) as river:
        with pytest.raises(StoreError, match="the store is down"):
            await river.backfill()
        with pytest.raises(StoreError, match="the store is down"):
            [found async for found in river.verify()]
        store.down = False
        assert (await river.backfill()).changed == 3


async def test_who_is_meant_to_end_waits_for_a_store_that_has_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage on the way is waited out, however long."""
    monkeypatch.setattr("conv_realtime.ingest.pace.FIRST_ANSWER", 0.0)

    class Falling(MemoryStore):
        refusals = 0

        def _check(self, table: Table) -> None:
            if table == "messages" and self.refusals < 5:
                self.refusals += 1
                raise StoreError(table, "ConnectError", "away", retryable=True)

    store = Falling()
    transcript(tmp_path, user("q"))
    async with ingest(tmp_path, store) as river:
        await river.backfill()
    assert store.refusals == 5 and texts(store) == ["prompt q"]


class Refusing(MemoryStore):
    """Refuses everybody, `left` times."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        if self.left:
            self.left -= 1
            raise StoreError(table, "PGRST301", "No suitable key", retryable=False)
        return await super().write(table, rows, **hints)


async def test_a_refusal_is_told_once_and_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that was revoked needs somebody: one line says so, and the rows wait in the files."""
    monkeypatch.setattr("conv_realtime.ingest.pace.LONGEST_DELAY", 0.01)

    store = Refusing(20)
    transcript(tmp_path, user("q"))
    async with running(ingest(tmp_path, store)):
        await until(lambda: texts(store) == ["prompt q"])
    assert len([text for text in caplog.messages if "No suitable key" in text]) == 1


async def test_what_else_is_asked_of_a_running_ingest_does_not_make_it_give_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing beside it, or a backfill that it is too busy for: both are meant to end, it not."""
    monkeypatch.setattr("conv_realtime.ingest.pace.LONGEST_DELAY", 0.01)
    store = Refusing(0)
    transcript(tmp_path, user("q"))
    async with running(ingest(tmp_path, store)) as river:
        await until(lambda: texts(store) == ["prompt q"])
        assert [one.state async for one in river.verify()] == ["equal"]
        with pytest.raises(RuntimeError, match="is at work"):
            await river.backfill(tmp_path / "projects")
        store.left = 20
        transcript(tmp_path, user("q"), user("r"))
        await until(lambda: texts(store) == ["prompt q", "prompt r"])


# A real network ----------------------------------------------------------------------------


@asynccontextmanager
async def _behind_a_network(
    folder: Path, local: LocalSupabase, owner: Owner, heard: Heard
) -> AsyncIterator[tuple[Ingest, Proxy]]:
    address = urlsplit(local.url)
    async with Proxy.to(address.hostname or "", address.port or 0) as network:
        settings: dict[str, Any] = {
            "supabase_url": f"http://127.0.0.1:{network.port}",
            "supabase_key": local.secret_key,
            "owner_id": UUID(owner.id),
            "request_timeout": 1.0,
        }
        async with running(ingest(folder, None, heard, **settings)) as river:
            yield river, network


def _changes(local: LocalSupabase, owner: Owner) -> list[dict[str, Any]]:
    """Every row of the owner, in the order of the stream."""
    headers = {"apikey": local.publishable_key, "authorization": f"Bearer {owner.token}"}
    answer = httpx.post(
        f"{local.url}/rest/v1/rpc/changes_since",
        headers=headers,
        json={"cursor": "start", "max_rows": 1000},
    )
    changes: list[dict[str, Any]] = answer.raise_for_status().json()["changes"]
    return changes


@pytest.mark.parametrize("silent", [False, True], ids=["cut", "silent"])
async def test_through_a_network_that_goes_and_comes_back(
    tmp_path: Path, local_supabase: LocalSupabase, owner: Owner, silent: bool
) -> None:
    """Cut, or swallowing every byte: local listeners hear on; the database has all of it once."""
    heard = Heard()
    (tmp_path / "projects").mkdir()
    async with _behind_a_network(tmp_path, local_supabase, owner, heard) as (river, network):
        path = transcript(tmp_path, user(0, "p0"))
        await until(lambda: river.health()["queue"] == 0 and _changes(local_supabase, owner))
        if silent:
            network.silent = True
        else:
            network.open = False
            network.cut()
        for number in range(1, 30):
            with path.open("ab") as file:
                file.write(user(number, f"p{number}", at=number))
        await until(lambda: len(heard.texts()) == 30)
        await until(lambda: river.health()["last_error"] is not None)
        path.write_bytes(path.read_bytes() + assistant("a", "m"))
        await until(lambda: len(heard.texts()) == 31)
        network.silent, network.open = False, True
        network.cut()  # what was swallowed does not come later
        await until(lambda: river.health()["queue"] == 0, 40)
        await until(lambda: river.health()["last_error"] is None)
        assert [one.state async for one in river.verify()] == ["equal"]
    rows = [change["row"] for change in _changes(local_supabase, owner)]
    messages = [row for row in rows if "role" in row]
    assert len(messages) == 31
    assert [row["seq"] for row in messages] == sorted(row["seq"] for row in messages)
    assert all(row["deleted_at"] is None for row in messages)


async def test_an_outage_is_no_reason_to_park(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the gateway answers meanwhile, with or without a body."""

    monkeypatch.setattr("conv_realtime.ingest.pace.FIRST_DELAY", 0.001)
    monkeypatch.setattr("conv_realtime.ingest.pace.LONGEST_DELAY", 0.01)

    class Shaky(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.answers = ["503", "502", "PGRST002", "57P01", "XX000", "ReadTimeout", "57014"] * 3

        def _check(self, table: Table) -> None:
            if table == "messages" and self.answers:
                raise StoreError(table, self.answers.pop(), "away", retryable=True)

    store = Shaky()
    transcript(tmp_path, *(user(n, f"p{n}") for n in range(9)))
    async with ingest(tmp_path, store) as river:
        await river.backfill()
        assert river.dead_letters == []
    assert texts(store) == [f"p{n}" for n in range(9)]

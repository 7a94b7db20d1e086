"""The bridge inside a user's program: life, handlers, and several on one state directory."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets
from starlette.applications import Starlette

from conv_realtime import (
    Bridge,
    ConfigError,
    Ingest,
    NewMessage,
    StoreError,
    conversation_id,
    testing,
)
from conv_realtime import bridge as bridge_module
from conv_realtime.cli.server import Server
from conv_realtime.core.envelope import event_of
from conv_realtime.edges.checkpoints import StateLock
from conv_realtime.testing import SESSION, claude_line
from tests.project import Owner, SupabaseProject
from tests.relay.rows import changed, conversation, created, message

WITHIN = 20.0


async def test_without_a_supabase_the_error_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is read when the bridge is entered, and what is missing is named."""
    for name in (
        "SUPABASE_URL",
        "SUPABASE_SECRET_KEY",
        "SUPABASE_SERVICE_ROLE_KEY",
        "SUPABASE_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    bridge = Bridge([tmp_path], state_dir=tmp_path / "state")
    with pytest.raises(ConfigError, match="conv-realtime local") as caught:
        async with bridge:
            pass
    assert caught.value.name == "SUPABASE_URL"
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="SUPABASE_SECRET_KEY"):
        async with bridge:
            pass


def test_making_a_bridge_touches_nothing(tmp_path: Path) -> None:
    """A constructor does no I/O: routes exist before the bridge is entered."""
    bridge = Bridge([tmp_path / "none"], state_dir=tmp_path / "state")
    assert {getattr(route, "path", None) for route in bridge.routes} == {"/ws", "/healthz"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [Bridge, Ingest])
async def test_a_home_is_found_in_the_state_directory_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: type[Bridge] | type[Ingest]
) -> None:
    """Where it does not come from a shell: a keyword, a unit of systemd, a `.env`."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    store, owner = testing.MemoryStore(), testing.OWNER
    async with make(paths=[tmp_path], state_dir="~/state", store=store, owner_id=owner):
        pass
    assert os.listdir(tmp_path) == ["home"]


@pytest.mark.parametrize("one", [str, Path])
async def test_a_single_path_needs_no_list(tmp_path: Path, one: type[str] | type[Path]) -> None:
    """A text is no list of its letters."""
    (tmp_path / f"{SESSION}.jsonl").write_bytes(claude_line("hi"))
    store, path = testing.MemoryStore(), one(tmp_path)
    async with Bridge(path, store=store, state_dir=tmp_path / "s", owner_id=testing.OWNER):
        async with asyncio.timeout(WITHIN):
            while not store.messages:  # noqa: ASYNC110 - the store has no events
                await asyncio.sleep(0.01)
    again = testing.MemoryStore()
    async with Ingest(store=again, state_dir=tmp_path / "t", owner_id=testing.OWNER) as ingest:
        assert (await ingest.backfill(path)).messages == 1
        assert [found.state async for found in ingest.verify(path)] == ["equal"]


async def test_no_paths_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty list does not stand for the usual places."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".claude" / "projects").mkdir(parents=True)
    (tmp_path / ".claude" / "projects" / f"{SESSION}.jsonl").write_bytes(claude_line("private"))
    store = testing.MemoryStore()
    values: dict[str, Any] = {"state_dir": tmp_path / "s", "owner_id": testing.OWNER}
    async with Bridge([], store=store, **values) as bridge:
        async with asyncio.timeout(WITHIN):
            while bridge.health()[1]["ingest"]["watcher"] != "ok":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert bridge.health()[1]["ingest"]["files"] == 0
    async with Ingest(store=store, **values) as ingest:
        assert (await ingest.backfill([])).files == 0
        assert (await ingest.backfill()).files == 1


async def test_a_users_test_appends_and_hears() -> None:
    """What the README promises to a user's test."""
    async with testing.bridge() as b:
        b.append(testing.claude_line("hi"))
        assert (await b.next("new_message")).data.text == "hi"
        path = b.append(testing.claude_line("again"))
        assert (await b.next("file_update")).data.path == str(path)


async def test_a_users_test_hears_in_order() -> None:
    """What it waits for passes over what came before, of whatever type."""
    async with testing.bridge() as b:
        talk = conversation()
        one, two = message("one", 1, of=talk), message("two", 2, of=talk)
        for change in (*created(one), *changed(talk), *created(two)):
            b.bridge.manager.hub.append(event_of(change, "s.1"))
        await b.next("new_message", text="one")
        await b.next("conversation_update")
        await b.next("new_message", text="two")


async def test_what_runs_is_not_entered_again(tmp_path: Path) -> None:
    """As by a program's own `async with` inside its lifespan; the first goes on."""
    values: dict[str, Any] = {"state_dir": tmp_path / "other", "owner_id": testing.OWNER}
    async with testing.bridge() as b, Ingest(store=b.store, **values) as ingest:
        for running in (b.bridge, b.bridge._relay, ingest):
            with pytest.raises(RuntimeError, match="runs already"):
                await running.__aenter__()
        b.append(claude_line("hi"))
        assert (await b.next("new_message")).data.text == "hi"


async def test_rows_are_in_the_store_and_merged_by_message_id() -> None:
    """Two lines of one response are one message, new first and then updated."""
    async with testing.bridge() as b:
        b.append(testing.claude_line("one", "assistant", message_id="m"))
        first = (await b.next("new_message")).data
        b.append(testing.claude_line("two", "assistant", message_id="m"))
        second = (await b.next("message_update")).data
        assert first.id == second.id
        assert second.revision > first.revision
        async with asyncio.timeout(WITHIN):
            while b.store.messages.get(second.id) is None:  # noqa: ASYNC110 - the store has no events
                await asyncio.sleep(0.01)
        assert len(b.store.conversations) == 1


async def test_next_can_ask_for_values() -> None:
    """Events of other kinds, and of other values, are passed over."""
    async with testing.bridge() as b:
        b.append(claude_line("one"))
        b.append(claude_line("two"))
        assert (await b.next("new_message", text="two")).data.text == "two"


async def test_handlers_match_and_a_failing_one_harms_nobody() -> None:
    """Only the role that was asked for is heard, and an error stays with its handler."""
    heard: asyncio.Queue[NewMessage] = asyncio.Queue()
    async with testing.bridge() as b:

        @b.bridge.on("new_message")
        async def failing(event: NewMessage) -> None:
            raise ValueError("a user's mistake")

        @b.bridge.on("new_message", role="assistant")
        async def answered(event: NewMessage) -> None:
            heard.put_nowait(event)

        b.append(claude_line("question"))
        b.append(claude_line("answer", "assistant"))
        async with asyncio.timeout(WITHIN):
            event = await heard.get()
        assert event.data.role == "assistant"
        assert heard.empty()


async def test_an_id_can_be_matched_by_its_text() -> None:
    """As it is in a frame or a database, in handlers and in a user's test."""
    heard: asyncio.Queue[NewMessage] = asyncio.Queue()
    id = str(conversation_id(testing.OWNER, "claude_code", "testing", SESSION))
    async with testing.bridge() as b:

        @b.bridge.on("new_message", conversation_id=id)
        async def note(event: NewMessage) -> None:
            heard.put_nowait(event)

        b.append(claude_line("elsewhere", session="5e551011-0000-4000-8000-000000000009"))
        b.append(claude_line("here"))
        assert (await b.next("new_message", conversation_id=id)).data.text == "here"
        async with asyncio.timeout(WITHIN):
            assert (await heard.get()).data.text == "here"


@pytest.mark.parametrize(
    ("type", "match"),
    [("no_such", {}), ("new_message", {"rolle": "user"}), ("new_message", {"role": "robot"})],
)
async def test_what_no_event_could_match_is_refused(type: str, match: dict[str, Any]) -> None:
    """A handler that waits for ever is a mistake that nobody sees."""
    with pytest.raises(ValueError, match=r"no_such|rolle|robot"):
        Bridge().on(type, **match)
    async with testing.bridge() as b:
        with pytest.raises(ValueError, match=r"no_such|rolle|robot"):
            await b.next(type, **match)


async def test_a_store_that_is_down_loses_nothing() -> None:
    """Clients hear at once; the row is written as soon as the database is back."""
    async with testing.bridge() as b:
        b.store.down = True
        b.append(claude_line("while away"))
        event = await b.next("new_message")
        assert b.store.messages == {}
        b.store.down = False
        async with asyncio.timeout(60):
            while event.data.id not in b.store.messages:  # noqa: ASYNC110 - the store has no events
                await asyncio.sleep(0.05)


async def test_what_was_read_is_sent_before_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database may be some time behind what clients have heard."""
    async with testing.bridge() as b:
        store, write = b.store, b.store.write

        async def write_slowly(*rows: Any, **how: Any) -> int:
            await asyncio.sleep(0.1)
            return await write(*rows, **how)

        monkeypatch.setattr(store, "write", write_slowly)
        b.append(claude_line("the last words"))
        event = await b.next("new_message")
        assert event.data.id not in store.messages
    assert event.data.id in store.messages


async def test_a_store_that_is_away_does_not_hold_up_the_end() -> None:
    """Whatever it lacks is in the files, for the next start."""
    async with testing.bridge() as b:
        b.store.down = True
        b.append(claude_line("while away"))
        await b.next("new_message")
        async with asyncio.timeout(WITHIN):
            while b.bridge.health()[1]["ingest"]["last_error"] is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        begun = asyncio.get_running_loop().time()
        drained = await b.bridge._ingest.drain(within=3600)  # type: ignore[union-attr]
        assert not drained
        assert asyncio.get_running_loop().time() - begun < WITHIN


async def test_a_host_serves_the_routes() -> None:
    """The routes of the bridge work in an application of the host's, beside others."""
    async with testing.bridge() as b, Server("127.0.0.1", 0) as server:
        await server.start(Starlette(routes=b.bridge.routes))
        async with asyncio.timeout(WITHIN), websockets.connect(f"ws://{server.address}/ws") as ws:
            assert json.loads(await ws.recv())["type"] == "connection_established"
            b.append(claude_line("hello"))
            while (event := json.loads(await ws.recv()))["type"] != "new_message":
                pass
        assert event["data"]["text"] == "hello"


async def test_one_of_two_ingests_and_the_other_takes_over(
    tmp_path: Path, supabase: SupabaseProject, member: Owner
) -> None:
    """Two bridges on a state directory: both hear all; when the first goes, the second ingests."""
    transcripts = tmp_path / "projects"
    transcripts.mkdir()
    settings: dict[str, Any] = {
        "state_dir": tmp_path / "state",
        "supabase_url": supabase.url,
        "supabase_key": supabase.secret_key,
        "owner_id": member.id,
        "machine": "test",
    }
    first, second = Bridge([transcripts], **settings), Bridge([transcripts], **settings)
    heard: asyncio.Queue[str] = asyncio.Queue()

    @second.on("new_message")
    async def note(event: NewMessage) -> None:
        heard.put_nowait(event.data.text)

    file = transcripts / f"{SESSION}.jsonl"
    async with AsyncExitStack() as stack, AsyncExitStack() as earlier:
        await earlier.enter_async_context(first)
        await stack.enter_async_context(second)
        assert first.ingesting
        assert not second.ingesting
        file.write_bytes(claude_line("from the first"))
        async with asyncio.timeout(WITHIN):
            assert await heard.get() == "from the first"
            await earlier.aclose()
            while not second.ingesting:  # noqa: ASYNC110 - it looks at a lock of the file system
                await asyncio.sleep(0.05)
            with file.open("ab") as appended:
                appended.write(claude_line("from the second"))
            assert await heard.get() == "from the second"


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (StoreError("conversations", "42501", "permission denied", retryable=False), "denied"),
        (asyncio.CancelledError(), "CancelledError"),  # of something that a store waited for
    ],
    ids=["refused", "cancelled"],
)
async def test_a_takeover_that_fails_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, told: str
) -> None:
    """The lock is ours then, so nobody else would ingest: /healthz says so until it works."""
    monkeypatch.setattr(bridge_module, "RESTART_SECONDS", 0.01)
    monkeypatch.setattr("conv_realtime.edges.checkpoints.lock.LOCK_SECONDS", 0.01)
    store, answer = testing.MemoryStore(), testing.MemoryStore.database
    refusing = True

    async def database(self: testing.MemoryStore) -> str:
        if refusing:
            raise failure
        return await answer(self)

    monkeypatch.setattr(testing.MemoryStore, "database", database)
    bridge = Bridge(
        [tmp_path],
        store=store,
        state_dir=tmp_path / "state",
        supabase_url="http://127.0.0.1:1",
        supabase_key="sb_secret_of_nobody",
        owner_id=testing.OWNER,
    )
    with StateLock(tmp_path / "state") as other:
        assert other.take()
        async with bridge, asyncio.timeout(WITHIN):
            assert bridge.health()[1]["ingest"]["watcher"] == "standby"
            other.__exit__()
            while told not in str(bridge.health()[1]["ingest"].get("last_error")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert bridge.health()[1]["ingest"]["watcher"] == "stopped"
            refusing = False
            while not bridge.ingesting:  # noqa: ASYNC110 - it tries again by the clock
                await asyncio.sleep(0.01)
        assert other.take()
        async with bridge:
            assert bridge.health()[1]["ingest"]["watcher"] == "standby", "of an earlier run"


async def test_who_stands_by_tells_of_a_state_directory_only_while_it_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one on a network drive may be; when it is back, the other one ingests as before."""
    monkeypatch.setattr(bridge_module, "RESTART_SECONDS", 0.01)
    monkeypatch.setattr("conv_realtime.edges.checkpoints.lock.LOCK_SECONDS", 0.01)
    state, away = tmp_path / "state", tmp_path / "away"
    bridge = Bridge(
        [tmp_path],
        store=testing.MemoryStore(),
        state_dir=state,
        supabase_url="http://127.0.0.1:1",
        supabase_key="sb_secret_of_nobody",
        owner_id=testing.OWNER,
    )
    with StateLock(state) as other:
        assert other.take()
        async with bridge, asyncio.timeout(WITHIN):
            state.rename(away)
            state.write_text("what is no folder")
            while bridge.health()[1]["ingest"].get("last_error") is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            state.unlink()
            away.rename(state)
            while bridge.health()[1]["ingest"].get("last_error") is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert bridge.health()[1]["ingest"]["watcher"] == "standby"


async def test_an_ingest_that_fails_while_it_is_ended_holds_up_no_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing what it works with may fail: that is told, and it is not begun again."""
    monkeypatch.setattr("conv_realtime.background.AGAIN_SECONDS", 60.0)
    monkeypatch.setattr(bridge_module, "RESTART_SECONDS", 60.0)

    begun = asyncio.Event()

    async def run(self: Ingest) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the disk is gone")

    monkeypatch.setattr(Ingest, "run", run)
    async with asyncio.timeout(WITHIN):
        async with testing.bridge():
            await begun.wait()
    assert "ingest failed" in caplog.messages


def test_a_state_lock_is_held_once(tmp_path: Path) -> None:
    """The second gets it only when the first has let go."""
    first, second = StateLock(tmp_path), StateLock(tmp_path)
    with first, second:
        assert first.take()
        assert first.take(), "taking it twice is holding it once"
        assert not second.take()
        first.__exit__()
        assert second.take()

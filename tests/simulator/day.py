"""A day: everything runs, the actions happen, everything heals, and all is compared."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from pydantic import SecretStr

from conv_realtime import Bridge
from conv_realtime.edges.checkpoints.survey import survey
from conv_realtime.events import Resync, ResyncData
from conv_realtime.ingest import Ingest
from conv_realtime.relay import Relay
from conv_realtime.settings import Settings
from conv_realtime.testing.supabase import SupabaseLocal
from tests.relay.proxy import Proxy
from tests.simulator.faults import FeedFaults, StoreFaults
from tests.simulator.followers import (
    ChannelClient,
    Client,
    JavaScriptClient,
    PythonClient,
    RawClient,
    State,
    shown,
)
from tests.simulator.model import Model
from tests.simulator.processes import Child, InProcess, Process, behind_proxy
from tests.simulator.script import Action
from tests.simulator.transcripts import File

logger = logging.getLogger("conv_realtime.simulator")

MACHINE = "simulated"
WITHIN = float(os.environ.get("SIMULATOR_WITHIN", "60"))
"""Seconds in which everything has to have come to rest, once all faults have ended."""

_LOOK_SECONDS = 0.02
_MOST_CLIENTS = 7
_REFUSED = "refused"


class WrongError(AssertionError):
    """Something is not as the model says."""


@dataclass
class Report:
    """What a day was like: what was injected how often, and what was wrong in the end."""

    seed: int
    kill: bool
    actions: list[Action]
    injected: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Day:
    """Everything that runs, and what can happen to it."""

    def __init__(self, supabase: SupabaseLocal, folder: Path, report: Report) -> None:
        self._supabase = supabase
        self._folder = folder
        self._report = report
        self._model = Model(supabase.owner_id, MACHINE)
        self._files: dict[str, File] = {}
        self._clients: list[Client] = []
        self._kept: Path | None = None
        self._refusing = False
        self._refused: set[str] = set()
        self._db: psycopg.AsyncConnection[dict[str, Any]] | None = None

    async def live(self, javascript: Callable[..., Any] | None) -> None:
        """Let the actions happen; raise `WrongError` if the end is not as it has to be."""
        async with AsyncExitStack() as stack:
            await self._set_up(stack, javascript)
            for action in self._report.actions:
                await self._happen(action)
                for client in self._clients:
                    client.check()
            await self._rest("in the end")
            for client in self._clients:
                client.start()
            await self._compare_clients()
            await self._read_again()

    # What runs -----------------------------------------------------------------------------

    async def _set_up(self, stack: AsyncExitStack, javascript: Callable[..., Any] | None) -> None:
        enter = stack.enter_async_context
        address = urlsplit(self._supabase.url)
        assert address.hostname is not None and address.port is not None
        self._links = {
            name: await enter(Proxy.to(address.hostname, address.port))
            for name in ("bridge", "relay", "channel")
        }
        self._state_dir = self._folder / "state"
        (self._folder / "projects").mkdir()
        bridge: type[InProcess] | type[Child] = Child if self._report.kill else InProcess
        settings = self._settings("bridge", self._supabase.secret_key)
        proxy = await enter(behind_proxy())
        here: Process = (
            Child(settings, proxy) if bridge is Child else InProcess(Bridge, settings, proxy)
        )
        relay = InProcess(
            Relay, self._settings("relay", self._supabase.secret_key), await enter(behind_proxy())
        )
        self._processes: dict[str, Process] = {"bridge": here, "relay": relay}
        stack.push_async_callback(self._end)
        for process in self._processes.values():
            await process.start()
        self._store_faults = StoreFaults(self._supabase.faults, self._report.injected)
        self._feed_faults = FeedFaults(
            self._supabase.faults, self._links["relay"], self._report.injected
        )
        self._clients = [
            PythonClient("bridge", here.url),
            RawClient("bridge", here.url),
            PythonClient("relay", relay.url),
            RawClient("relay", relay.url),
            ChannelClient(self._settings("channel", self._supabase.token())),
        ]
        if javascript is not None:
            self._clients.append(await self._javascript(javascript))
        for client in self._clients:
            client.start()

    def _settings(self, link: str, key: str) -> Settings:
        return Settings.model_construct(
            supabase_url=f"http://127.0.0.1:{self._links[link].port}",
            supabase_key=SecretStr(key),
            supabase_jwt_secret=SecretStr(self._supabase.jwt_secret),
            owner_id=UUID(self._supabase.owner_id),
            machine=MACHINE,
            state_dir=self._state_dir,
            paths=[self._folder / "projects"],
            rest_seconds=0.05,
            sweep_seconds=0.4,
            request_timeout=3.0,
            reconcile_interval=0.3,
            batch_rows=5,
            client_queue_events=200,
            replay_events=100,
        )

    async def _javascript(self, ask: Callable[..., Any]) -> Client:
        supabase = {
            "name": "day",
            "url": self._supabase.url,
            "key": self._supabase.publishable_key,
            "tokens": [self._supabase.token()],
        }
        often = {"reconcileMs": 400, "pollMs": 200, "messages": 1000}
        options = {**often, "firstPauseMs": 20, "longestPauseMs": 200}
        await ask("follow", name="day", supabase=supabase, options=options)
        return JavaScriptClient("javascript", ask, "day")

    async def _end(self) -> None:
        self._heal_links()
        for client in self._clients:
            await client.stop()
        for process in self._processes.values():
            await process.crash()
        if self._db is not None:
            await self._db.close()

    # What happens --------------------------------------------------------------------------

    async def _happen(self, action: Action) -> None:
        name, *given = action
        self._report.injected[str(name)] += 1
        logger.info("%s", action)
        on_file = _ON_FILES.get(name)
        if on_file is not None:
            await on_file(self, self._file(given[0]), *given[1:])
        else:
            await getattr(self, "_do_" + name.replace(" ", "_"))(*given)

    def _file(self, name: str) -> File:
        if name not in self._files:
            self._files[name] = File(self._folder, name, self._model)
        return self._files[name]

    async def _do_append(self, name: str, kinds: Sequence[int]) -> None:
        self._file(name).append(kinds)

    async def _do_pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _do_rest(self) -> None:
        await self._rest("at rest")

    async def _rewriting(self, file: File, act: Callable[[], None], *, unrelated: bool) -> None:
        """Do what takes messages back, once it is certain what that has to come to.

        What has just got another path, or is new to the state directory, may be an older copy:
        from such a file nothing is taken back. And what a file is replaced by is another
        conversation only if somebody has seen what it was.
        """
        if not file.alone:
            return
        file.settle_line()
        if unrelated or file.unread:
            await self._rest("before it is rewritten")
        act()

    # Processes

    async def _do_start(self, place: str) -> None:
        await self._processes[place].start()

    async def _do_stop(self, place: str) -> None:
        await self._processes[place].stop()

    async def _do_crash(self, place: str) -> None:
        await self._processes[place].crash()

    async def _do_restart(self, place: str) -> None:
        await self._processes[place].crash()
        await self._processes[place].start()

    async def _do_crash_while_writing(self, table: str) -> None:
        """Crash when a request has reached the database and its answer has reached nobody."""
        if not self._processes["bridge"].running:
            return
        path = f"/rest/v1/{table}"
        with self._supabase.faults.hang(path=path, method="POST", times=1, done=True) as fault:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    while not fault.hits:  # noqa: ASYNC110 - counted in another thread
                        await asyncio.sleep(0.002)
            self._report.injected["crash before the answer"] += fault.hits
            await self._processes["bridge"].crash()

    async def _away(self) -> bool:
        """Have the bridge gone, if nothing that was taken back depends on what it knows."""
        if any(file.part.pending for file in self._files.values()):
            await self._rest("before it forgets")
        await self._processes["bridge"].crash()
        for file in self._files.values():
            file.unread = True
        return self._state_dir.exists()

    async def _do_lose_state(self) -> None:
        if await self._away():
            shutil.rmtree(self._state_dir)

    async def _do_spoil_state(self, where: float) -> None:
        if await self._away():
            for path in self._state_dir.glob("checkpoints.sqlite3*"):
                data = bytearray(path.read_bytes())
                at = int(len(data) * where) if path.suffix == ".sqlite3" else 0
                data[at : at + 2000] = bytes(len(data[at : at + 2000]))
                path.write_bytes(data)

    async def _do_keep_state(self) -> None:
        """Make a copy of the state directory, as a backup does."""
        source = self._state_dir / "checkpoints.sqlite3"
        if source.exists():
            self._kept = self._folder / "kept.sqlite3"
            with sqlite3.connect(source) as db, sqlite3.connect(self._kept) as copy:
                db.backup(copy)
            db.close()
            copy.close()

    async def _do_older_state(self) -> None:
        if self._kept is not None and await self._away():
            for path in self._state_dir.glob("checkpoints.sqlite3*"):
                path.unlink()
            shutil.copy(self._kept, self._state_dir / "checkpoints.sqlite3")

    # Faults

    async def _do_store(self, kind: str, where: str, times: int) -> None:
        self._store_faults.begin(kind, f"/rest/v1/{where}", times)

    async def _do_feed(self, kind: str, times: int) -> None:
        self._feed_faults.begin(kind, times)

    async def _do_mend(self) -> None:
        self._heal_links()

    async def _do_postgres(self, kill: bool) -> None:
        await asyncio.to_thread(self._supabase.faults.restart_postgres, kill=kill)

    async def _do_refuse(self, name: str) -> None:
        """Have the database refuse all further rows of what this file says, but for no fault."""
        if not self._file(name).exists or self._refusing:
            return
        self._refusing = True
        check = f"check (text not like 'prompt {name}.%' or revision < 0) not valid"
        await self._alter(
            f"drop constraint if exists {_REFUSED}, add constraint {_REFUSED} {check}"
        )

    async def _do_allow(self) -> None:
        if not self._refusing:
            return
        await self._alter(f"drop constraint if exists {_REFUSED}")
        self._refusing = False
        self._heal_links()
        self._bring_back()  # what is gone is not sent once more
        await self._retry()

    async def _retry(self) -> None:
        """Do what `conv-realtime retry` does."""
        async with Ingest(settings=self._settings("bridge", self._supabase.secret_key)) as beside:
            left = await beside.retry()
        if left:
            raise WrongError(f"dead letters are left: {[fault.code for fault in left]}")

    # Clients

    async def _do_cut_clients(self, place: str) -> None:
        self._processes[place].cut_clients()

    async def _do_leave(self, number: int) -> None:
        await self._clients[number % len(self._clients)].stop()

    async def _do_return(self, number: int) -> None:
        self._clients[number % len(self._clients)].start()

    async def _do_join(self, place: str, kind: str) -> None:
        if len(self._clients) < _MOST_CLIENTS:
            made = PythonClient if kind == "python" else RawClient
            self._clients.append(made(place, self._processes[place].url))
            self._clients[-1].start()

    async def _do_gap(self, place: str) -> None:
        """Have every client told that it has missed something."""
        process = self._processes[place]
        one = process.running_one if isinstance(process, InProcess) else None
        if one is not None:
            cursor = one.manager.hub.log.cursor
            data = ResyncData(reason="too_slow", cursor=cursor)
            await one.manager.broadcast(Resync(data=data))

    # The end -------------------------------------------------------------------------------

    def _stated(self) -> set[str]:
        """Return the conversations that files state at this moment."""
        return {
            self._model.conversation_id(file.talk, len(file.talk.parts) - 1)
            for file in self._files.values()
            if file.exists and not file.away and file.part.told()
        }

    def _bring_back(self) -> None:
        """Have files there again of which something is not sent: what is only in them is lost."""
        for file in self._files.values():
            if file.unsent:
                file.come_back()

    def _heal_links(self) -> None:
        self._store_faults.end()
        self._feed_faults.end()

    async def _rest(self, when: str) -> None:
        """Have everything work again, and wait until the database is what the model says."""
        self._heal_links()
        for process in self._processes.values():
            await process.start()
        self._bring_back()
        await self._do_allow()
        await self._becomes(self._differences_or_letters, f"the database, {when}")
        if any(file.unread for file in self._files.values()):
            await self._becomes(self._unread, f"the state directory, {when}")
        self._model.rest()
        for file in self._files.values():
            file.unread = file.unread and file.away
            file.unsent = False

    async def _compare_clients(self) -> None:
        await self._becomes(self._clients_differences, "the clients")
        faults = [f"{client.place}: {what}" for client in self._clients for what in client.faults]
        if faults:
            raise WrongError("; ".join(faults))

    async def _read_again(self) -> None:
        """Read everything once more, and once without a checkpoint: that changes no row."""
        for process in self._processes.values():
            await process.stop()
        before = await self._rows()
        for lost in (False, True):
            if lost:
                shutil.rmtree(self._state_dir)
            settings = self._settings("bridge", self._supabase.secret_key)
            async with Ingest(settings=settings) as ingest:
                summary = await ingest.backfill()
            if summary.changed or await self._rows() != before:
                where = "without a checkpoint " if lost else ""
                raise WrongError(f"reading again {where}changed {summary.changed} rows")

    async def _becomes(self, look: Callable[[], Awaitable[list[str]]], what: str) -> None:
        wrong: list[str] = ["nothing was seen"]
        with suppress(TimeoutError):
            async with asyncio.timeout(WITHIN):
                while wrong := await look():  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(_LOOK_SECONDS)
        if wrong:
            raise WrongError(f"{what}: " + "; ".join(wrong[:12]))

    async def _differences(self) -> list[str]:
        try:
            return self._model.differences(*await self._rows())
        except psycopg.OperationalError as error:
            return [f"the database cannot be read: {error}"]

    async def _unread(self) -> list[str]:
        """Return the files that the state directory does not know as they are."""
        with closing(sqlite3.connect(self._state_dir / "checkpoints.sqlite3")) as db:
            rows = db.execute("select path, size, mtime_ns from checkpoints").fetchall()
        known = {os.fsdecode(path): place for path, *place in rows}
        return [
            f"{name} was not read"
            for name, file in self._files.items()
            if file.exists
            and not file.away
            and not any(known.get(str(path)) == _place(path) for path in file.paths)
        ]

    async def _differences_or_letters(self) -> list[str]:
        wrong = await self._differences()
        await self._retry_if(wrong)
        return wrong

    async def _retry_if(self, wrong: list[str]) -> None:
        """Retry what was noted as refused only after everybody had been allowed again.

        The database may have it from before; listeners were told that it is refused.
        """
        if wrong and survey(self._state_dir).dead_letters:
            await self._retry()

    async def _clients_differences(self) -> list[str]:
        conversations, messages = await self._rows()
        live = {id: shown(row) for id, row in messages.items() if row["deleted_at"] is None}
        stored: State = {id: shown(row) for id, row in conversations.items()} | live
        stated = self._stated()
        wrong: list[str] = []
        for number, client in enumerate(self._clients):
            client.check()
            state = await client.state()
            if client.place == "javascript":
                expected: State = {id: row[:1] for id, row in conversations_of(stored).items()}
            else:
                expected = stored
            if client.place == "bridge":
                # It knows of what lies in files now. What it has heard beside that is true, too,
                # if not the newest: of a file that is gone it may have forgotten the end.
                old = {id: row for id, row in stored.items() if _place_of(id, row) not in stated}
                state = {
                    id: row for id, row in state.items() if id not in old or row[0] > old[id][0]
                }
                expected = {id: row for id, row in stored.items() if id not in old}
            different = {id for id in {*state, *expected} if state.get(id) != expected.get(id)}
            wrong += (
                f"{type(client).__name__} {number} of {client.place} has"
                f" {state.get(id)} and not {expected.get(id)} ({id})"
                for id in different
            )
        await self._retry_if(wrong)
        return wrong

    async def _rows(self) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        conversations = await self._sql("select * from public.conversations")
        messages = await self._sql("select * from public.messages")
        return {str(row["id"]): _plain(row) for row in conversations}, {
            str(row["id"]): _plain(row) for row in messages
        }

    async def _alter(self, what: str) -> None:
        """Change the table of messages, also while PostgreSQL is just being restarted."""
        async with asyncio.timeout(WITHIN):
            while True:
                with suppress(psycopg.OperationalError):
                    await self._sql(f"alter table public.messages {what}")
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    async def _sql(self, statement: str) -> list[dict[str, Any]]:
        try:
            if self._db is None or self._db.closed:
                self._db = await psycopg.AsyncConnection.connect(
                    self._supabase.db_url, autocommit=True, row_factory=dict_row
                )
            cursor = await self._db.execute(statement.encode())
            return await cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            if self._db is not None:
                await self._db.close()
            self._db = None
            raise


def conversations_of(state: State) -> State:
    """Return the conversations of a state: what has no place in one."""
    return {id: row for id, row in state.items() if len(row) == 4}


def _place_of(id: str, row: tuple[Any, ...]) -> str:
    return id if len(row) == 4 else str(row[1])


def _place(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, UUID) else value for name, value in row.items()}


_OnFile = Callable[..., Awaitable[None]]


def _growing(name: str) -> _OnFile:
    async def act(day: Day, file: File, *given: Any) -> None:
        if file.exists:
            getattr(file, name)(*given)

    return act


def _rewriting(name: str, *, unrelated: bool = False) -> _OnFile:
    async def act(day: Day, file: File, *given: Any) -> None:
        if file.exists:
            await day._rewriting(file, lambda: getattr(file, name)(*given), unrelated=unrelated)

    return act


def _hiding(name: str) -> _OnFile:
    async def act(day: Day, file: File) -> None:
        if file.exists and not file.away:
            getattr(file, name)()

    return act


def _copying(*, linked: bool) -> _OnFile:
    async def act(day: Day, file: File) -> None:
        if file.exists:
            if file.part.pending:
                await day._rest("before it is copied")
            file.copy(linked)

    return act


async def _moving(day: Day, file: File) -> None:
    if file.exists:
        if file.part.pending:
            await day._rest("before it is moved")
        file.move()


_ON_FILES: dict[str, _OnFile] = {
    "begin line": _growing("begin_line"),
    "leave line": _growing("leave_line"),
    "append unended": _growing("append_unended"),
    "replace grown": _growing("replace_grown"),
    "come back": _growing("come_back"),
    "drop copies": _growing("drop_copies"),
    "cut": _rewriting("cut"),
    "rewind": _rewriting("rewind"),
    "edit": _rewriting("edit"),
    "bring back": _rewriting("bring_back"),
    "replace unrelated": _rewriting("replace_unrelated", unrelated=True),
    "rotate": _rewriting("rotate", unrelated=True),
    "vanish": _hiding("vanish"),
    "empty": _hiding("empty"),
    "move": _moving,
    "copy": _copying(linked=False),
    "link": _copying(linked=True),
}

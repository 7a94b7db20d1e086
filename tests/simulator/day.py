"""A day: everything runs, the actions happen, everything heals, and all is compared."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from conv_realtime.edges.checkpoints.survey import survey
from conv_realtime.events import Resync, ResyncData
from conv_realtime.ingest import Ingest
from conv_realtime.testing.supabase import SupabaseLocal
from tests.simulator.comparing import differences
from tests.simulator.database import Database
from tests.simulator.followers import PythonClient, RawClient
from tests.simulator.model import Model
from tests.simulator.on_files import ON_FILES
from tests.simulator.processes import InProcess
from tests.simulator.script import Action
from tests.simulator.stage import MACHINE, Stage
from tests.simulator.state_directory import StateDirectory
from tests.simulator.transcripts import File

logger = logging.getLogger("conv_realtime.simulator")

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
        self._refusing = False
        self._state = StateDirectory(folder / "state", folder / "kept.sqlite3")
        self._database = Database(supabase.db_url)
        self._stage = Stage(supabase, folder, self._state.path, report.injected)

    async def live(self, javascript: Callable[..., Any] | None) -> None:
        """Let the actions happen; raise `WrongError` if the end is not as it has to be."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._database.close)
            await self._stage.set_up(stack, kill=self._report.kill, javascript=javascript)
            for action in self._report.actions:
                await self._happen(action)
                for client in self._stage.clients:
                    client.check()
            await self.rest("in the end")
            for client in self._stage.clients:
                client.start()
            await self._compare_clients()
            await self._read_again()

    # What happens --------------------------------------------------------------------------

    async def _happen(self, action: Action) -> None:
        name, *given = action
        self._report.injected[str(name)] += 1
        logger.info("%s", action)
        on_file = ON_FILES.get(name)
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
        await self.rest("at rest")

    async def rewriting(self, file: File, act: Callable[[], None], *, unrelated: bool) -> None:
        """Do what takes messages back, once it is certain what that has to come to.

        What has just got another path, or is new to the state directory, may be an older copy:
        from such a file nothing is taken back. And what a file is replaced by is another
        conversation only if somebody has seen what it was.
        """
        if not file.alone:
            return
        file.settle_line()
        if unrelated or file.unread:
            await self.rest("before it is rewritten")
        act()

    # Processes

    async def _do_start(self, place: str) -> None:
        await self._stage.processes[place].start()

    async def _do_stop(self, place: str) -> None:
        await self._stage.processes[place].stop()

    async def _do_crash(self, place: str) -> None:
        await self._stage.processes[place].crash()

    async def _do_restart(self, place: str) -> None:
        await self._stage.processes[place].crash()
        await self._stage.processes[place].start()

    async def _do_crash_while_writing(self, table: str) -> None:
        """Crash when a request has reached the database and its answer has reached nobody."""
        if not self._stage.processes["bridge"].running:
            return
        path = f"/rest/v1/{table}"
        with self._supabase.faults.hang(path=path, method="POST", times=1, done=True) as fault:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    while not fault.hits:  # noqa: ASYNC110 - counted in another thread
                        await asyncio.sleep(0.002)
            self._report.injected["crash before the answer"] += fault.hits
            await self._stage.processes["bridge"].crash()

    async def _away(self) -> bool:
        """Have the bridge gone, if nothing that was taken back depends on what it knows."""
        if any(file.part.pending for file in self._files.values()):
            await self.rest("before it forgets")
        await self._stage.processes["bridge"].crash()
        for file in self._files.values():
            file.unread = True
        return self._state.path.exists()

    async def _do_lose_state(self) -> None:
        if await self._away():
            self._state.lose()

    async def _do_spoil_state(self, where: float) -> None:
        if await self._away():
            self._state.spoil(where)

    async def _do_keep_state(self) -> None:
        self._state.keep()

    async def _do_older_state(self) -> None:
        if self._state.is_kept and await self._away():
            self._state.restore()

    # Faults

    async def _do_store(self, kind: str, where: str, times: int) -> None:
        self._stage.store_faults.begin(kind, f"/rest/v1/{where}", times)

    async def _do_feed(self, kind: str, times: int) -> None:
        self._stage.feed_faults.begin(kind, times)

    async def _do_mend(self) -> None:
        self._stage.heal()

    async def _do_postgres(self, kill: bool) -> None:
        await asyncio.to_thread(self._supabase.faults.restart_postgres, kill=kill)

    async def _do_refuse(self, name: str) -> None:
        """Have the database refuse all further rows of what this file says, but for no fault."""
        if not self._file(name).exists or self._refusing:
            return
        self._refusing = True
        check = f"check (text not like 'prompt {name}.%' or revision < 0) not valid"
        await self._database.alter(
            f"drop constraint if exists {_REFUSED}, add constraint {_REFUSED} {check}", WITHIN
        )

    async def _do_allow(self) -> None:
        if not self._refusing:
            return
        await self._database.alter(f"drop constraint if exists {_REFUSED}", WITHIN)
        self._refusing = False
        self._stage.heal()
        self._bring_back()  # what is gone is not sent once more
        await self._retry()

    async def _retry(self) -> None:
        """Do what `conv-realtime retry` does."""
        async with Ingest(
            settings=self._stage.settings("bridge", self._supabase.secret_key)
        ) as beside:
            left = await beside.retry()
        if left:
            raise WrongError(f"dead letters are left: {[fault.code for fault in left]}")

    # Clients

    async def _do_cut_clients(self, place: str) -> None:
        self._stage.processes[place].cut_clients()

    async def _do_leave(self, number: int) -> None:
        await self._stage.clients[number % len(self._stage.clients)].stop()

    async def _do_return(self, number: int) -> None:
        self._stage.clients[number % len(self._stage.clients)].start()

    async def _do_join(self, place: str, kind: str) -> None:
        if len(self._stage.clients) < _MOST_CLIENTS:
            made = PythonClient if kind == "python" else RawClient
            self._stage.clients.append(made(place, self._stage.processes[place].url))
            self._stage.clients[-1].start()

    async def _do_gap(self, place: str) -> None:
        """Have every client told that it has missed something."""
        process = self._stage.processes[place]
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

    async def rest(self, when: str) -> None:
        """Have everything work again, and wait until the database is what the model says."""
        self._stage.heal()
        for process in self._stage.processes.values():
            await process.start()
        self._bring_back()
        await self._do_allow()
        await self._becomes(self._differences_or_letters, f"the database, {when}")
        if any(file.unread for file in self._files.values()):
            await self._becomes(self._not_read, f"the state directory, {when}")
        self._model.rest()
        for file in self._files.values():
            file.unread = file.unread and file.away
            file.unsent = False

    async def _compare_clients(self) -> None:
        await self._becomes(self._clients_differences, "the clients")
        faults = [
            f"{client.place}: {what}" for client in self._stage.clients for what in client.faults
        ]
        if faults:
            raise WrongError("; ".join(faults))

    async def _read_again(self) -> None:
        """Read everything once more, and once without a checkpoint: that changes no row."""
        for process in self._stage.processes.values():
            await process.stop()
        before = await self._database.rows()
        for lost in (False, True):
            if lost:
                self._state.lose()
            settings = self._stage.settings("bridge", self._supabase.secret_key)
            async with Ingest(settings=settings) as ingest:
                summary = await ingest.backfill()
            if summary.changed or await self._database.rows() != before:
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
            return self._model.differences(*await self._database.rows())
        except psycopg.OperationalError as error:
            return [f"the database cannot be read: {error}"]

    async def _not_read(self) -> list[str]:
        return self._state.unread(self._files)

    async def _differences_or_letters(self) -> list[str]:
        wrong = await self._differences()
        await self._retry_if(wrong)
        return wrong

    async def _retry_if(self, wrong: list[str]) -> None:
        """Retry what was noted as refused only after everybody had been allowed again.

        The database may have it from before; listeners were told that it is refused.
        """
        if wrong and survey(self._state.path).dead_letters:
            await self._retry()

    async def _clients_differences(self) -> list[str]:
        conversations, messages = await self._database.rows()
        wrong = await differences(self._stage.clients, conversations, messages, self._stated())
        await self._retry_if(wrong)
        return wrong

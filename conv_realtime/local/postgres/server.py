"""A PostgreSQL of our own: made on first use, supervised while entered, gone when we are gone.

Rules that the code below keeps:

* A data directory is whole or absent: it is initialised aside and renamed.
* One folder, one instance: the lock is held until the last process of PostgreSQL has ended.
* A postmaster left behind by an earlier run is stopped before a new one starts.
* `synchronous_commit` stays on: without it the change stream waits up to 200 ms for the WAL writer.
* No statement, value or row is ever written to the server's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

from conv_realtime.background import beside, on_thread, whole
from conv_realtime.errors import ConfigError
from conv_realtime.local.postgres import guard
from conv_realtime.local.postgres.cluster import (
    SUPERUSER,
    clear,
    environment,
    failure,
    last_words,
    open_log,
    prepare,
    remembered_port,
)
from conv_realtime.local.postgres.lock import FolderLock
from conv_realtime.local.postgres.orphans import is_ready
from conv_realtime.local.postgres.placement import Placement, place, usable

_log = logging.getLogger("conv_realtime.local.postgres")

_SETTINGS = {
    "wal_level": "logical",
    "synchronous_commit": "on",
    "max_connections": "100",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_wal_size": "512MB",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "log_destination": "stderr",
    "logging_collector": "off",
    # Errors repeat values of rows, and rows are conversations: only the server's own news is kept.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}

_THROWAWAY = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "128MB",
}
"""For data that need not outlive the machine: a `kill -9` loses nothing, a power cut everything."""

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.005
_RESTART_SECONDS = 0.2
_RESTART_MAX_SECONDS = 5.0


class Postgres:
    """A supervised PostgreSQL child, as an async context manager.

    Args:
        folder: where its data, lock and socket live; under root the data may have to live
            elsewhere, see `placement`.
        throwaway: its data need not outlive the machine; nothing waits for the disk.

    Attributes:
        port: the TCP port in use on 127.0.0.1, that of the last run if it is free; stable between
            restarts within one entering.
    """

    def __init__(self, folder: Path, *, throwaway: bool = False) -> None:
        self.port = 0
        self._throwaway = throwaway
        self._wanted = asyncio.Event()
        self._up = asyncio.Event()
        self._folder = folder
        self._stack = contextlib.AsyncExitStack()
        self._placement: Placement | None = None
        self._child: _Child | None = None

    def dsn(self, dbname: str = "postgres", user: str = SUPERUSER) -> str:
        """Gives a URL for the Unix socket, on which our account may be any role."""
        if self._placement is None:
            raise RuntimeError("PostgreSQL has not been started")
        query = urlencode({"host": str(self._placement.sockets), "port": self.port})
        return f"postgresql://{quote(user)}@/{quote(dbname)}?{query}"

    @property
    def pid(self) -> int | None:
        """The process id of PostgreSQL as it runs now."""
        return self._child.pid if self._child else None

    @property
    def guard_pid(self) -> int | None:
        """The process id of the guard that ends PostgreSQL when this process is gone."""
        return self._child.guard_pid if self._child else None

    async def __aenter__(self) -> Self:
        """Starts PostgreSQL and returns when it takes connections.

        Raises:
            ConfigError: the folder is in use or unusable, or PostgreSQL does not start.
        """
        async with contextlib.AsyncExitStack() as stack:
            lock = await stack.enter_async_context(FolderLock(self._folder / "lock"))
            with usable(self._folder):
                self._placement = await on_thread(place, self._folder)
                sync = not self._throwaway
                await on_thread(prepare, self._placement, lock.fileno(), sync=sync)
                self._child = await self._start_on_a_free_port(lock)
            self._wanted.set()
            stack.push_async_callback(lambda: whole(self._stop()))
            supervision = beside(self._supervise(lock), "conv_realtime.local.postgres")
            await stack.enter_async_context(supervision)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stops PostgreSQL; close every replication stream first, it would hold the stop up."""
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def down(self, *, kill: bool = False) -> AsyncIterator[None]:
        """Keeps PostgreSQL stopped inside the block; when it is left, connections are taken again.

        Args:
            kill: end it as the kernel would, without a word to anybody.
        """
        assert self._child is not None and self._child.pid is not None
        self._wanted.clear()
        self._up.clear()
        os.kill(self._child.pid, signal.SIGKILL if kill else signal.SIGINT)
        try:
            await self._child.ended.wait()
            yield
        finally:
            self._wanted.set()
            await self._up.wait()

    async def _start_on_a_free_port(self, lock: FolderLock) -> _Child:
        port = remembered_port(self._folder, self.port)
        while True:
            self.port = port
            try:
                return await self._start(lock)
            except ConfigError:  # others may have taken the port before PostgreSQL did
                port = remembered_port(self._folder, self.port)
                if port == self.port:
                    raise

    async def _start(self, lock: FolderLock) -> _Child:
        assert self._placement is not None
        settings = _SETTINGS | _THROWAWAY if self._throwaway else _SETTINGS
        return await _Child.start(self._placement, self.port, lock.fileno(), settings)

    async def _stop(self) -> None:
        assert self._child is not None and self._placement is not None
        await self._child.stop()
        if self._placement.sockets_are_temporary:
            await on_thread(shutil.rmtree, self._placement.sockets, ignore_errors=True)

    async def _supervise(self, lock: FolderLock) -> None:
        """Starts PostgreSQL again whenever it ends, for as long as it takes."""
        assert self._placement is not None
        while True:
            assert self._child is not None
            await self._child.ended.wait()
            _log.warning("postgres_ended", extra={"restarting": True})
            await self._child.stop()  # it has ended: only its pipes are left to close
            await self._wanted.wait()
            wait = _RESTART_SECONDS
            while self._child.ended.is_set():
                try:
                    lock.check()
                    await on_thread(clear, self._placement)
                    self._child = await self._start(lock)
                except (ConfigError, OSError) as error:  # a full disk may have room again later
                    _log.error("postgres_restart_failed: %s", error)
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, _RESTART_MAX_SECONDS)
            self._up.set()


class _Child:
    """One run of PostgreSQL under its guard."""

    def __init__(self, process: subprocess.Popen[bytes], data: Path, log_start: int) -> None:
        self.ended = asyncio.Event()
        self._process = process
        self._data = data
        self._log_start = log_start
        self.pid: int | None = None
        self.guard_pid = process.pid
        assert process.stdout is not None
        self._status = process.stdout.fileno()
        asyncio.get_running_loop().add_reader(self._status, self._on_status)

    @classmethod
    async def start(
        cls, placement: Placement, port: int, lock: int, settings: Mapping[str, str]
    ) -> Self:
        """Starts it and waits until it takes connections.

        Raises:
            ConfigError: it ended instead; the last line of its log is in the message.
        """
        process, log_start = _spawn(placement, port, lock, settings)
        child = cls(process, placement.data, log_start)
        try:
            await child._until_ready()
        except BaseException:
            await whole(child.stop())
            raise
        return child

    async def stop(self) -> None:
        """Cuts the guard's lifeline and waits until PostgreSQL has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self.ended.wait()
        if not self.ended.is_set():
            asyncio.get_running_loop().remove_reader(self._status)
        self._process.stdout.close()

    def _on_status(self) -> None:
        """The guard tells PostgreSQL's pid; it closes its output when both have ended."""
        if told := os.read(self._status, 64):
            self.pid = int(told)
            return
        asyncio.get_running_loop().remove_reader(self._status)
        self._process.wait()
        self.ended.set()

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not is_ready(self._data, self.pid):
            if self.ended.is_set() or time.monotonic() > deadline:
                raise failure(last_words(self._data, self._log_start), self._data)
            await asyncio.sleep(_POLL_SECONDS)


def _spawn(
    placement: Placement, port: int, lock: int, settings: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Starts the guard; gives it, and where in the log the words of this run begin."""
    settings = {
        **settings,
        "port": str(port),
        "unix_socket_directories": str(placement.sockets),
        "hba_file": str(placement.data / "pg_hba.conf"),
    }
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    account = placement.account
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    command: list[str | Path] = [placement.binaries / "postgres", "-D", placement.data, *options]
    prefix = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(uid), str(gid)]
    with open_log(placement.data) as log:
        log_start = os.lseek(log, 0, os.SEEK_END)
        guarded = subprocess.Popen(
            [*prefix, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(),
            pass_fds=(lock,),
            start_new_session=True,  # the terminal's Ctrl-C is ours to order
        )
    return guarded, log_start

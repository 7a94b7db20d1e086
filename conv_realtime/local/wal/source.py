"""Follows the committed transactions of a PostgreSQL database, as they commit.

A logical replication client on psycopg's ``pq`` layer: a temporary slot, the pgoutput plug-in and
COPY in both directions, read with the event loop's reader so that nothing blocks and nothing
polls. The slot is temporary because a broadcast is a hint: what is missed while nobody listens is
not replayed, and no forgotten slot can fill a disk.

A connected walsender holds up PostgreSQL's fast shutdown until its client has confirmed all WAL.
This client confirms what it receives, answers every keepalive at once, and gives the walsender
back when it is cancelled; after a restart of PostgreSQL it connects again by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import psycopg
from psycopg import pq

from conv_realtime.core.pauses import pauses_between_attempts
from conv_realtime.local.wal.pgoutput import POSTGRES_EPOCH, Decoder, Relation, Transaction

log = logging.getLogger("conv_realtime.local.wal")

# Values come as text: in one form, whatever the database or its roles have set.
_SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
STATUS_SECONDS = 5.0  # PostgreSQL drops a silent client after wal_sender_timeout, 60 s
CONNECT_SECONDS = 10.0
_PAUSES = (0.05, 2.0)  # seconds before another attempt to connect, at first and at most


class WalSource:
    """Delivers the changes of some publications, transaction by transaction, in commit order.

    Args:
        dsn: of a role with REPLICATION that may read the published tables.
        publications: their names; they must exist when changes arrive.
        deliver: called in the event loop with each transaction; must not block or raise.
        connected: called with True once changes are certain to be seen from now on, and with
            False when the stream broke: changes until the next True were missed.
        ready: awaited after each delivery; while it waits no more is read, and PostgreSQL keeps
            what follows. Cancelled and awaited again now and then.
        wants: whether the changes of a table are to be delivered at all.
        part_rows: see `Decoder`.
        part_bytes: see `Decoder`.
        may_connect: returns when another attempt to connect may begin; default: at once.
    """

    def __init__(
        self,
        dsn: str,
        publications: Sequence[str],
        deliver: Callable[[Transaction], None],
        *,
        connected: Callable[[bool], None] = lambda _: None,
        ready: Callable[[], Awaitable[None]] | None = None,
        wants: Callable[[Relation], bool] = lambda _: True,
        part_rows: int | None = None,
        part_bytes: int | None = None,
        may_connect: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._dsn = dsn
        self._publications = tuple(publications)
        self._deliver = deliver
        self._connected = connected
        self._ready = ready
        self._decoder = partial(Decoder, wants, part_rows, part_bytes)
        self._position = 0
        self._reported = 0.0
        self._may_connect = may_connect

    async def run(self) -> None:
        """Streams until cancelled, connecting again whenever the stream breaks.

        Cancelling closes the connection, which frees the slot and the walsender.
        """
        delays = pauses_between_attempts(*_PAUSES)
        while True:
            if self._may_connect is not None:
                await self._may_connect()
            try:
                async with self._slot() as pgconn:
                    delays = pauses_between_attempts(*_PAUSES)
                    self._connected(True)
                    try:
                        await self._stream(pgconn)
                    finally:
                        self._connected(False)
            except (psycopg.Error, OSError, ValueError) as error:
                log.debug("replication stream broke: %s", error)
            except Exception:  # what cannot be read costs a gap, and not the stream for ever
                log.exception("replication stream broke")
            await asyncio.sleep(next(delays))

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[pq.abc.PGconn]:
        """Connects, makes a temporary slot and starts streaming from it."""
        name = f"conv_realtime_{os.getpid()}_{secrets.token_hex(4)}"
        connection = await psycopg.AsyncConnection.connect(
            self._dsn,
            autocommit=True,
            replication="database",
            application_name="conv_realtime_wal",
            connect_timeout=int(CONNECT_SECONDS),
            options=" ".join(f"-c {name}={value}" for name, value in _SETTINGS.items()),
        )
        try:
            await connection.execute(
                f'CREATE_REPLICATION_SLOT "{name}" TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT'
            )
            publications = ",".join(f'"{name}"' for name in self._publications)
            await _start(
                connection.pgconn,
                f'START_REPLICATION SLOT "{name}" LOGICAL 0/0 '
                f"(proto_version '1', publication_names '{publications}')",
            )
            yield connection.pgconn
        finally:
            # Not the polite close(): it would wait for a server that may be gone. Closing the
            # socket makes the walsender exit at once.
            connection.pgconn.finish()

    async def _stream(self, pgconn: pq.abc.PGconn) -> None:
        """Reads until the stream ends.

        Raises:
            psycopg.OperationalError: the server ended it.
        """
        decoder = self._decoder()
        self._position = 0
        self._reported = time.monotonic()
        with _readable(pgconn.socket) as readable:
            while True:
                readable.clear()
                pgconn.consume_input()
                for message in _received(pgconn):
                    at, asked, transaction = _understand(message, decoder)
                    self._position = max(self._position, at)
                    if asked:
                        self._report(pgconn)
                    if transaction is not None:
                        self._deliver(transaction)
                        if self._ready is not None:
                            await self._awake(pgconn, self._ready)
                await self._awake(pgconn, readable.wait)

    async def _awake(self, pgconn: pq.abc.PGconn, what: Callable[[], Awaitable[object]]) -> None:
        """Waits for something, and meanwhile shows PostgreSQL that somebody is there."""
        while True:
            if time.monotonic() - self._reported >= STATUS_SECONDS:
                self._report(pgconn)
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_SECONDS):
                    await what()
                    return

    def _report(self, pgconn: pq.abc.PGconn) -> None:
        pgconn.put_copy_data(_status(self._position))
        pgconn.flush()
        self._reported = time.monotonic()


def _understand(message: bytes, decoder: Decoder) -> tuple[int, bool, Transaction | None]:
    """Takes one replication message: how far the server is, whether it asks for a reply, and the
    transaction that this message completes."""
    if message[:1] == b"w":
        _, position, _, _ = struct.unpack_from("!cQQq", message)
        transaction = decoder.feed(message[25:])
        done = transaction is not None and transaction.is_whole
        return (transaction.lsn if transaction and done else position), False, transaction
    if message[:1] == b"k":
        _, position, _, asked = struct.unpack("!cQqB", message)
        return position, bool(asked), None
    raise ValueError(f"replication message of unknown kind {message[:1]!r}")


def _status(position: int) -> bytes:
    """Builds a standby status update: everything up to the position is written and flushed."""
    now = int((time.time() - POSTGRES_EPOCH) * 1_000_000)
    return struct.pack("!cQQQqB", b"r", position, position, position, now, 0)


def _received(pgconn: pq.abc.PGconn) -> Iterator[bytes]:
    """Yields the complete messages that have arrived, without waiting."""
    while True:
        size, data = pgconn.get_copy_data(1)
        if size == 0:
            return
        if size < 0:
            error = pgconn.get_error_message() or "the server ended the stream"
            raise psycopg.OperationalError(error)
        yield bytes(data)


async def _start(pgconn: pq.abc.PGconn, command: str) -> None:
    """Sends a command and waits until the connection copies in both directions."""
    with _readable(pgconn.socket) as readable:
        pgconn.send_query(command.encode())
        pgconn.flush()  # a short command into an empty socket buffer: it leaves whole
        while pgconn.is_busy():
            readable.clear()
            await readable.wait()
            pgconn.consume_input()
    result = pgconn.get_result()
    if result is None or result.status != pq.ExecStatus.COPY_BOTH:
        raise psycopg.OperationalError(result.get_error_message() if result else "no answer")


@contextmanager
def _readable(descriptor: int) -> Iterator[asyncio.Event]:
    """Gives an event that is set whenever the descriptor can be read."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, event.set)
    try:
        yield event
    finally:
        loop.remove_reader(descriptor)

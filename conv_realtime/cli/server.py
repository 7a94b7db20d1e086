"""uvicorn inside our own event loop: the port is taken first, signals stay ours."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

import uvicorn

from conv_realtime.background import whole
from conv_realtime.core.addresses import reached_at
from conv_realtime.core.requests import MAX_REQUEST_BYTES
from conv_realtime.edges.doorstep import Doorstep, protocol
from conv_realtime.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_CLOSE_SECONDS = 3
_OF_CLIENTS = (
    "ASGI callable returned without completing handshake.",
    "Invalid UTF-8 sequence received from client.",
)
_MOST_FILES = 65536


class Server:
    """Serves an ASGI application on one address.

    Entering takes the port, so that a port in use is known before anything else is started;
    connections made before `start` wait.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._server: _Quiet | None = None
        self._task: asyncio.Task[None] | None = None
        self._doorstep = Doorstep()

    @property
    def address(self) -> str:
        """`host:port` for a URL; a server on all addresses is reached by loopback."""
        return reached_at(self._host, self._port)

    async def __aenter__(self) -> Self:
        """Take the port.

        Raises:
            ConfigError: it is in use, or the address is not this machine's.
        """
        self._socket = _bind(self._host, self._port)
        self._port = self._socket.getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self.stop()
        finally:
            if self._socket is not None:
                self._socket.close()

    async def start(self, app: ASGIApp) -> None:
        """Serve `app`; return when connections are accepted."""
        assert self._socket is not None
        _allow_many_clients()
        logging.getLogger("uvicorn.error").addFilter(_worth_a_line)
        self._server = _Quiet(_config(app, self._doorstep))
        self._task = asyncio.create_task(self._server.serve([self._socket]), name="http server")
        while not self._server.started:
            if self._task.done():
                await self._task
                raise RuntimeError("the HTTP server ended before it began")
            await asyncio.sleep(0.005)

    async def ended(self) -> None:
        """Return when it serves no more, though nobody has stopped it."""
        assert self._task is not None
        await asyncio.wait({self._task})

    async def stop(self) -> None:
        """Close what is open, within _CLOSE_SECONDS. Does nothing if it does not run."""
        server, task = self._server, self._task
        try:
            if server is not None and task is not None:
                server.should_exit = True
                await whole(task)
        finally:
            self._doorstep.close()


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Leave out errors that are of clients, which uvicorn refuses: anybody could fill the log."""
    return record.msg not in _OF_CLIENTS


class _Quiet(uvicorn.Server):
    """uvicorn without signal handlers: the command line has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: ASGIApp, doorstep: Doorstep) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol(doorstep),
        lifespan="off",
        log_config=None,
        # Its lines would hold the query string, and with it a client's token.
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=MAX_REQUEST_BYTES,
        # The relay pings by itself, in the protocol of /ws.
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        # A forwarded address must never make a stranger look local.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
    )


def _allow_many_clients() -> None:
    """Open as many files as the system lets us: each client is one, and usual are 1,024."""
    if sys.platform == "win32":  # counts none
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because asyncio turns Nagle off only for sockets that say that they are TCP.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform == "win32":  # where SO_REUSEADDR gives others the same port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        # Listening takes the port for good: without it a second process could bind it as well.
        bound.listen(2048)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError("--port", f"{port} is in use; choose another, or 0") from error
        if error.errno == errno.EACCES:
            advice = f"{port} is not for this account; choose one above 1023, or 0"
            raise ConfigError("--port", advice) from error
        raise ConfigError("--host", f"cannot listen on {host}: {error.strerror}") from error
    bound.setblocking(False)
    return bound

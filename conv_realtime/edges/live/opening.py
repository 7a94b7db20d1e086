"""Opening a connection to a `/ws`: with a fresh token, and knowing which refusal is final."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException

from conv_realtime.core.addresses import is_loopback
from conv_realtime.core.keys import without_secrets
from conv_realtime.errors import ConfigError, FeedError

Token = str | Callable[[], str | None] | Callable[[], Awaitable[str | None]]

MAX_FRAME_BYTES = 4 * 2**20
"""A longer frame ends the connection; the server sends at most 512 KB."""

OPEN_SECONDS = 15.0
_CLOSE_SECONDS = 1.0  # what nobody reads any more stands before the goodbye


class Unreachable(Exception):
    """There is no connection now, and there may be one later; `__cause__` says why."""


class Address:
    """Where a `/ws` is, and who comes there.

    Args:
        url: `ws://` or `wss://`, with the path.
        token: a bearer token, or what gives a fresh one.

    Attributes:
        told: the URL for logs and errors, without a token in it.
    """

    def __init__(self, url: str, token: Token | None) -> None:
        self.told = without_secrets(url)
        self._url = url
        self._token = token
        self._refused = False

    @property
    def renews(self) -> bool:
        """Whether there may be another token when one has expired."""
        return callable(self._token)

    async def open(self) -> ClientConnection:
        """Connect.

        Raises:
            ConfigError: the address has no usable form.
            FeedError: the server refuses this client; coming back would not help.
            Unreachable: nobody is there, or refuses for now.
        """
        local = is_loopback(self._host() or "")
        try:
            connection = await self._connect(await self._fresh_token(), local)
        except InvalidStatus as error:
            self._refuse(error)
            raise Unreachable from error
        except InvalidURI:
            raise self._no_address() from None  # it quotes the URL
        except (OSError, TimeoutError, WebSocketException) as error:
            raise Unreachable from error
        self._refused = False
        return connection

    def _host(self) -> str | None:
        try:
            parts = urlsplit(self._url)
            host, _ = parts.hostname, parts.port
        except ValueError:  # half an IPv6 address, or a port that is none
            raise self._no_address() from None
        return host

    def _no_address(self) -> ConfigError:
        return ConfigError("url", f"{self.told} is no ws://host:port/ws")

    async def _connect(self, token: str | None, local: bool) -> ClientConnection:
        return await websockets.connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            open_timeout=OPEN_SECONDS,
            ping_interval=None,  # the server pings, and pings again
            close_timeout=_CLOSE_SECONDS,
            max_size=MAX_FRAME_BYTES,
            proxy=None if local else True,
        )

    async def _fresh_token(self) -> str | None:
        token = self._token() if callable(self._token) else self._token
        if inspect.isawaitable(token):
            async with asyncio.timeout(OPEN_SECONDS):
                token = await token
        return token.strip() if token else None  # a file that it was read from ends in a newline

    def _refuse(self, error: InvalidStatus) -> None:
        """Raise if the server will not think otherwise; a fresh token is tried once."""
        status = error.response.status_code
        renewed = status == 401 and self.renews and not self._refused
        self._refused = status == 401
        if status in (401, 403, 404) and not renewed:
            raise FeedError(self.told, f"refused with HTTP {status}") from error

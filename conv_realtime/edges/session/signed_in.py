"""A token that is always fresh, however many tasks and processes use the session."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import httpx

from conv_realtime.core.keys import read_key
from conv_realtime.edges.session.auth_server import AGAIN, AuthServer
from conv_realtime.edges.session.kept import Kept, keep_session, read_session, turn
from conv_realtime.errors import ConfigError, SessionError, unusable
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.session")

_EXPIRED = b"PGRST303"


def signed_in(settings: Settings) -> SignedIn | None:
    """Return the session that a publishable key is used with.

    None where there is nobody to speak for: with a secret key, with a user's token as key, or
    when nobody has signed in.

    Raises:
        ConfigError: who has signed in is a user of another project, or cannot be told.
    """
    if settings.supabase_url is None or settings.supabase_key is None:
        return None
    if read_key(settings.supabase_key.get_secret_value()).kind != "publishable":
        return None
    try:
        kept = read_session(settings.state_dir)
    except OSError as error:
        raise unusable(error.filename or settings.state_dir, error) from error
    if kept is None:
        return None
    if kept.url.rstrip("/") != settings.supabase_url.rstrip("/"):
        raise ConfigError(
            "SUPABASE_URL",
            f"is not the project that this state directory is signed in to ({kept.url}); "
            f"{AGAIN}, or choose another state directory",
        )
    return SignedIn(settings, kept)


class SignedIn:
    """A `ports.UserSession` from the state directory.

    Whoever needs a token when the old one is about to end renews it, for all: one task at a time
    and one process at a time. A process that finds that another has renewed it, or that somebody
    has signed in again, takes that over.

    Args:
        settings: the project, the key, the state directory.
        kept: the session.
    """

    def __init__(self, settings: Settings, kept: Kept) -> None:
        self._settings = settings
        self._state_dir = settings.state_dir
        self._kept = kept
        self._turn = asyncio.Lock()
        self._stale: str | None = None  # the refresh token in a file that could not be written

    @property
    def user_id(self) -> UUID:
        """Who has signed in; that never changes."""
        return self._kept.user_id

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Return an HTTP client whose requests carry the user's token, whoever makes them."""
        return _SpeakingClient(_Bearer(self), **options)

    async def token(self) -> str:
        """Return a token that holds for a while.

        Raises:
            SessionError: the session has ended, or cannot be renewed now and its token is old.
        """
        if time.time() >= self._kept.renew_at:
            await self._renew(self._kept)
        return self._kept.access_token

    async def another(self, than: str) -> str | None:
        """Return another token after one that was refused; None if this is the newest.

        Raises:
            SessionError: as of `token`.
        """
        kept = self._kept
        if kept.access_token == than:
            await self._renew(kept, refused=True)
        return self._kept.access_token if self._kept.access_token != than else None

    async def _renew(self, old: Kept, *, refused: bool = False) -> None:
        async with self._turn:
            if self._kept is not old:
                return  # another task was first
            try:
                async with turn(self._state_dir):
                    self._kept = await self._renewed(old)
            except SessionError as error:
                # The auth server may be away for longer than it takes to be noticed.
                if not error.retryable or refused or time.time() >= old.expires_at:
                    raise
                logger.info("the session could not be renewed yet: %s", error.code)
            except OSError as error:
                reason = f"{self._state_dir} cannot be used: {error.strerror}"
                raise SessionError("state_directory", reason, retryable=True) from error

    async def _renewed(self, old: Kept) -> Kept:
        """Return what another process has renewed meanwhile, else renew it."""
        there = read_session(self._state_dir)
        if there is None:
            raise SessionError("signed_out", f"nobody is signed in; {AGAIN}", retryable=False)
        if there.user_id != old.user_id or there.url != old.url:
            raise SessionError(
                "another_user",
                f"{there.email or there.user_id} has signed in instead; start this again to run"
                " as that user",
                retryable=False,
            )
        if there.access_token != old.access_token and time.time() < there.renew_at:
            return there
        key = self._settings.supabase_key
        assert key is not None
        async with httpx.AsyncClient(timeout=self._settings.request_timeout) as http:
            auth_server = AuthServer(old.url, key.get_secret_value(), http)
            renewed = await auth_server.renewed(
                old if there.refresh_token == self._stale else there
            )
        try:
            keep_session(self._state_dir, renewed)
            self._stale = None
        except OSError as error:  # a full disk: go on from memory, for the old one works no longer
            logger.error("the session cannot be kept in %s: %s", self._state_dir, error.strerror)
            self._stale = there.refresh_token
        return renewed


class _SpeakingClient(httpx.AsyncClient):
    """postgrest-py turns a client's own authentication off for each request; here it stays.

    No transport of our own, which would turn the proxies of the environment off.
    """

    def __init__(self, bearer: _Bearer, **options: Any) -> None:
        super().__init__(**options)
        self._bearer = bearer

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        return await super().send(request, **{**options, "auth": self._bearer})


class _Bearer(httpx.Auth):
    """Gives each request the user's token, and another one to those that it was too old for."""

    def __init__(self, session: SignedIn) -> None:
        self._session = session

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = await self._session.token()
        request.headers["authorization"] = f"Bearer {token}"
        response = yield request
        # By clocks that differ a token may be too old that does not look so from here.
        if response.status_code == 401 and _EXPIRED in await response.aread():
            another = await self._session.another(token)
            if another is not None:
                request.headers["authorization"] = f"Bearer {another}"
                yield request

"""Which Supabase a command works on.

`SUPABASE_URL` if set, else that of the running instance of the state directory, else a local
Supabase that lives as long as the command.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from conv_realtime.background import beside
from conv_realtime.cli.instance import Instance, running
from conv_realtime.cli.options import require_local, until
from conv_realtime.cli.surroundings import leave_out_libpq
from conv_realtime.core.keys import read_key
from conv_realtime.edges.session import signed_in
from conv_realtime.errors import ConfigError, ConvRealtimeError, FeedError

if TYPE_CHECKING:
    from conv_realtime.local import LocalSupabase
    from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.cli")

_INSTEAD = "set SUPABASE_URL and SUPABASE_SECRET_KEY"
_LOOK_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Target:
    """A Supabase and how to reach it.

    `secret_key`, `db_url` and `jwt_secret` are known of a local Supabase only. `borrowed` when
    another process runs it.
    """

    settings: Settings
    url: str
    publishable_key: str | None = None
    secret_key: str | None = None
    db_url: str | None = None
    jwt_secret: str | None = None
    borrowed: bool = False

    def facts(self) -> dict[str, Any]:
        """Return what `ready` says of it."""
        facts = {
            "supabase_url": self.url,
            "publishable_key": self.publishable_key,
            "owner_id": str(self.settings.owner_id) if self.settings.owner_id else None,
        }
        if self.secret_key is not None:
            facts["secret_key"] = self.secret_key
        return facts

    def private_facts(self) -> dict[str, Any]:
        """Return what `instance.json` says beside that, for commands on the same state."""
        return {**self.facts(), "db_url": self.db_url, "jwt_secret": self.jwt_secret}


@asynccontextmanager
async def target(
    settings: Settings, instance: Instance, *, local_port: int
) -> AsyncIterator[Target]:
    """Give the Supabase to work on, started here if need be.

    Raises:
        ConfigError: SUPABASE_URL is none or has no key beside it, or the extra `local` is missing.
    """
    if settings.supabase_url is not None:
        yield _configured(settings)
    elif (facts := await _announced(settings, instance)) is not None:
        yield _of_instance(settings, facts)
    else:
        require_local(instead=_INSTEAD)
        _look_for_port(local_port)
        async with local_supabase(settings, port=local_port) as local:
            found = _of_local(settings, local)
            instance.announce(found.private_facts())
            yield found


@asynccontextmanager
async def lasting_target(
    settings: Settings, instance: Instance, *, local_port: int
) -> AsyncIterator[Target]:
    """Give what `target` does; where another process runs it and ends, it goes on here.

    For commands that end by themselves: they would wait without end for a database that nobody
    runs any more.

    Raises:
        ConfigError: as `target` does.
    """
    async with target(settings, instance, local_port=local_port) as found:
        if not found.borrowed:
            yield found
            return
        async with succeeding(settings, instance, found, found.private_facts()):
            yield found


@asynccontextmanager
async def succeeding(
    settings: Settings, instance: Instance, found: Target, facts: Mapping[str, Any]
) -> AsyncIterator[None]:
    """Be the instance in the other one's place, once that has gone, and announce `facts`.

    If the local Supabase went with it, it is started again here.
    """

    async def succeed() -> None:
        async with AsyncExitStack() as stack:
            await until(instance.claim, _LOOK_SECONDS)
            if found.borrowed:
                # At the same address with the same keys: all that used it goes on.
                port = urlsplit(found.url).port or 0
                await stack.enter_async_context(local_supabase(settings, port=port))
            instance.announce(facts)
            await asyncio.Event().wait()

    async def keep_trying() -> None:
        while True:
            try:
                await succeed()
            except ConvRealtimeError as error:
                # What the other one has left may take a moment to end.
                logger.warning("cannot take over yet: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)

    async with beside(keep_trying(), "succession"):
        yield


async def _announced(settings: Settings, instance: Instance) -> dict[str, Any] | None:
    """Return what the other instance says; None where this process is the instance.

    One that is just starting is waited for. One that ends is succeeded; whoever only looks for an
    instance holds its lock for a moment, too.

    Raises:
        ConfigError: it does not start, or works on a Supabase that this command does not know.
    """

    def look() -> dict[str, Any] | bool | None:
        return instance.claim() or running(settings.state_dir)

    try:
        async with asyncio.timeout(_START_SECONDS):
            facts: dict[str, Any] | bool = await until(look, _LOOK_SECONDS)
    except TimeoutError:
        raise ConfigError(
            "--state-dir",
            f"{settings.state_dir} is in use by an instance that does not start; stop that, or"
            " choose another state directory",
        ) from None
    if isinstance(facts, bool):
        return None
    if not facts.get("secret_key"):
        raise ConfigError(
            "SUPABASE_URL",
            f"process {facts.get('pid')} uses this state directory with another Supabase; "
            "set the same SUPABASE_URL and key, or choose another --state-dir",
        )
    return facts


@asynccontextmanager
async def local_supabase(
    settings: Settings, *, port: int, host: str = "127.0.0.1", allow_remote: bool = False
) -> AsyncIterator[LocalSupabase]:
    """Run the local Supabase of the state directory.

    Raises:
        ConfigError: there is none for this system, or the extra `local` is missing.
        FeedError: its server has ended by itself.
    """
    from conv_realtime import local

    require_local(instead=_INSTEAD)
    leave_out_libpq()
    async with local.LocalSupabase(
        settings.state_dir, host, port, settings.owner_id, allow_remote=allow_remote
    ) as supabase:
        async with _while_it_serves(supabase):
            yield supabase


@asynccontextmanager
async def _while_it_serves(supabase: LocalSupabase) -> AsyncIterator[None]:
    """Cancel the body when the server ends by itself: it would wait for answers without end.

    Raises:
        FeedError: it has.
    """

    async def watch() -> None:
        await supabase.ended()
        limit.reschedule(asyncio.get_running_loop().time())

    try:
        async with asyncio.timeout(None) as limit, beside(watch(), "local server"):
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        reason = "the local Supabase's server has ended by itself"
        raise FeedError(supabase.url, reason) from None


def _look_for_port(port: int) -> None:
    """Tell of a port that is taken before a database is made, which takes seconds.

    Raises:
        ConfigError: it is.
    """
    from conv_realtime.local.address import listening

    with listening("127.0.0.1", port):
        pass


def _configured(settings: Settings) -> Target:
    if settings.supabase_key is None:
        raise ConfigError(
            "SUPABASE_SECRET_KEY",
            "SUPABASE_URL is set, so a key is needed too "
            "(Supabase dashboard, Project Settings, API Keys)",
        )
    assert settings.supabase_url is not None
    if not settings.supabase_url.startswith(("https://", "http://")):
        raise ConfigError(
            "SUPABASE_URL",
            "is no project's URL: that begins with https://, or on this machine with http:// "
            "(Supabase dashboard, Project Settings, Data API)",
        )
    url, key = settings.supabase_url, settings.supabase_key.get_secret_value()
    publishable = key if read_key(key).kind == "publishable" else None
    session = signed_in(settings)
    if session is not None and settings.owner_id is None:
        settings = settings.model_copy(update={"owner_id": session.user_id})
    return Target(settings, url, publishable_key=publishable)


def _of_instance(settings: Settings, facts: dict[str, Any]) -> Target:
    url, key = str(facts["supabase_url"]), str(facts["secret_key"])
    return Target(
        _reaching(settings, url, key, facts.get("owner_id"), facts.get("jwt_secret")),
        url,
        publishable_key=facts.get("publishable_key"),
        secret_key=key,
        db_url=facts.get("db_url"),
        jwt_secret=facts.get("jwt_secret"),
        borrowed=True,
    )


def _of_local(settings: Settings, local: LocalSupabase) -> Target:
    return Target(
        _reaching(settings, local.url, local.secret_key, local.owner_id, local.jwt_secret),
        local.url,
        publishable_key=local.publishable_key,
        secret_key=local.secret_key,
        db_url=local.db_url,
        jwt_secret=local.jwt_secret,
    )


def _reaching(
    settings: Settings, url: str, key: str, owner_id: object, jwt_secret: str | None
) -> Settings:
    """Return `settings` pointed at a local Supabase; an owner that was chosen stays."""
    from conv_realtime.settings import Settings

    values: dict[str, Any] = {name: getattr(settings, name) for name in type(settings).model_fields}
    values |= {"supabase_url": url, "supabase_key": key, "supabase_jwt_secret": jwt_secret}
    values["owner_id"] = settings.owner_id or owner_id
    return Settings.load(**values)

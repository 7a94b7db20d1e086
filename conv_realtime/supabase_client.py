"""The Supabase project that the settings name, and supabase-py's client of it.

The store and the feed are built on one each, and do not know each other. Making one asks nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx

from conv_realtime.errors import ConfigError
from conv_realtime.settings import Settings

if TYPE_CHECKING:
    from supabase import AsyncClient


def project_and_key(settings: Settings) -> tuple[str, str]:
    """Return URL and key of the Supabase project that the settings name.

    Raises:
        ConfigError: one of them is not set; it says which, and what to do.
    """
    url, key = settings.supabase_url, settings.supabase_key
    if url is None or key is None:
        raise ConfigError(
            "SUPABASE_URL" if url is None else "SUPABASE_SECRET_KEY",
            "is not set; a project's dashboard shows both (Project Settings), and"
            " `conv-realtime local` prints those of a Supabase on this machine",
        )
    return url, key.get_secret_value()


async def new_client(settings: Settings, http: httpx.AsyncClient) -> AsyncClient:
    """Return a client over `http`, which the caller closes, and which lets answers go once read.

    Raises:
        ConfigError: no project is named, or its URL or key have no usable form.
    """
    from supabase import AsyncClientOptions, acreate_client

    url, key = project_and_key(settings)
    http.event_hooks["response"].append(_let_go)
    options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
    try:
        return await acreate_client(url, key, options=options)
    except Exception as error:  # supabase-py raises unrelated types for a bad URL or key
        raise ConfigError("SUPABASE_URL", str(error) or "no client can be made") from error


class _Released(httpx.AsyncByteStream):
    """An answer's bytes, nothing of which is kept after the last one.

    httpx's stream has the answer that has the stream. What was sent and what was answered would
    stay until the garbage is collected, and our commands collect rarely: all of a backfill stayed.
    """

    def __init__(self, bound: httpx.AsyncByteStream) -> None:
        self._bound = bound

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._bound:
            yield part

    async def aclose(self) -> None:
        try:
            await self._bound.aclose()
        finally:
            del self._bound


async def _let_go(response: httpx.Response) -> None:
    if isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _Released(response.stream)

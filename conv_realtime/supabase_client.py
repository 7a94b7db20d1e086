"""The Supabase project that the settings name, and supabase-py's client of it.

The store and the feed are built on one each, and do not know each other. Making one asks nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conv_realtime.errors import ConfigError
from conv_realtime.settings import Settings

if TYPE_CHECKING:
    import httpx
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
    """Return a client over `http`, which the caller closes.

    Raises:
        ConfigError: no project is named, or its URL or key have no usable form.
    """
    from supabase import AsyncClientOptions, acreate_client

    url, key = project_and_key(settings)
    options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
    try:
        return await acreate_client(url, key, options=options)
    except Exception as error:  # supabase-py raises unrelated types for a bad URL or key
        raise ConfigError("SUPABASE_URL", str(error) or "no client can be made") from error

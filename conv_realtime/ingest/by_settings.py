"""What the settings mean for an ingest: its store, whose its rows are, what is cleaned of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from hashlib import sha256
from uuid import UUID

import orjson

from conv_realtime.background import whole
from conv_realtime.core.keys import read_key
from conv_realtime.core.redaction import PatternError, redactor
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.session import SignedIn
from conv_realtime.edges.store import SupabaseStore, http_client
from conv_realtime.errors import ConfigError
from conv_realtime.settings import Settings
from conv_realtime.supabase_client import new_client


def sanitizers(settings: Settings) -> Callable[[], Sanitizer]:
    """Return what gives sanitizers by the settings.

    Raises:
        ConfigError: a pattern cannot be used.
    """
    try:
        found = redactor(settings.redaction, tuple(settings.redaction_patterns))
    except PatternError as error:
        raise ConfigError("redaction_patterns", str(error)) from None
    return partial(
        Sanitizer,
        redactor=found,
        images=settings.images,
        max_text_bytes=settings.max_text_bytes,
    )


def cleaning(settings: Settings) -> str:
    """Return what tells rows that are cleaned by these settings from others."""
    names = {"redaction", "redaction_patterns", "images", "max_text_bytes"}
    stated = settings.model_dump(include=names, mode="json")
    return sha256(orjson.dumps(stated, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def own_store(
    settings: Settings, session: SignedIn | None, stack: AsyncExitStack
) -> SupabaseStore:
    """Return a store by the settings, whose connections are closed with `stack`."""
    http = http_client(settings.request_timeout, session)
    stack.push_async_callback(lambda: whole(http.aclose()))
    return SupabaseStore(await new_client(settings, http))


def owner_of(settings: Settings, user: UUID | None) -> UUID:
    """Return who owns the rows: the setting, else the user who is signed in.

    Raises:
        ConfigError: neither is there, or the one is not the other.
    """
    if settings.owner_id is not None and user not in (None, settings.owner_id):
        raise ConfigError(
            "CONV_REALTIME_OWNER_ID",
            f"is {settings.owner_id}, but user {user} is signed in, who may only write rows of"
            " their own; unset it, or take a secret key",
        )
    if owner := settings.owner_id or user:
        return owner
    raise ConfigError(
        "CONV_REALTIME_OWNER_ID",
        "is not set; it is the id of the user who owns the conversations, in the project's"
        " dashboard under Authentication, Users; with a publishable key, sign in instead:"
        " conv-realtime login",
    )


def user_of_key(settings: Settings) -> UUID | None:
    """Return the user whose token was given as the key; None for keys that are nobody's."""
    key = settings.supabase_key
    return read_key(key.get_secret_value()).user if key is not None else None

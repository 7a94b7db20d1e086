"""How the feed gets at a Supabase: whose client it has, and one kind of error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
from postgrest import APIError
from pydantic import ValidationError

from conv_realtime.core.keys import read_key
from conv_realtime.core.refusals import passes
from conv_realtime.errors import StoreError

if TYPE_CHECKING:
    from supabase import AsyncClient


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Turn what supabase-py, httpx and an odd answer raise into a `StoreError` about `what`."""
    try:
        yield
    except APIError as error:
        code = str(error.code or "unknown")
        # Without a code it is a gateway that answers, and not PostgREST.
        passing = code == "unknown" or passes(code)
        reason = (error.message or "no message").splitlines()[0][:200]
        raise StoreError(what, code, reason, retryable=passing) from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        reason = str(error) or "no answer"
        raise StoreError(what, type(error).__name__, reason, retryable=True) from error
    except RuntimeError as error:
        if "client has been closed" not in str(error):  # for which httpx has no type of its own
            raise
        raise StoreError(what, "stopped", "the feed is not running", retryable=True) from error
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        reason = "the answer is not what this version of the schema gives"
        raise StoreError(what, type(error).__name__, reason, retryable=False) from error


def no_json(what: str) -> StoreError:
    """Return the error of a page in the place of an answer: supabase-py takes any text for data."""
    return StoreError(what, "200", "the answer is no JSON", retryable=True)


async def user_of(client: AsyncClient) -> UUID | None:
    """Return the signed-in user, or the one whose token is used as key.

    What the auth server raises, where a session has to be renewed, is passed on: who is signed in
    cannot be told then.
    """
    session = await client.auth.get_session()
    if session is not None:
        return UUID(session.user.id)
    return read_key(client.supabase_key).user

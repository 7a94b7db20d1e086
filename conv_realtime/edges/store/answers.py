"""What supabase-py and httpx raise, as one kind of error; and what supabase-py does not pass on.

Every foreign error of the store is mapped here and nowhere else; the feed has a mapping of its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import httpx
from postgrest import APIError

from conv_realtime.core.pauses import asked_to_wait
from conv_realtime.core.refusals import UNENCODABLE, passes
from conv_realtime.errors import ConfigError, ConvRealtimeError, SessionError, StoreError
from conv_realtime.ports import UserSession

_MAX_BYTES = 256 << 20
"""More than any answer to a question of ours has."""

_SLOWEST = 8 << 10
"""Bytes a second of a line that is slow, and not of one that brings nothing."""

_KEY_REFUSED = frozenset({"PGRST300", "PGRST301", "PGRST302", "PGRST303", "401", "403", "42501"})


def advised(error: StoreError) -> ConvRealtimeError:
    """Return what a user has to put right where a project refuses its first question."""
    if isinstance(error, SessionError):
        return ConfigError("session", error.reason)
    if error.code in _KEY_REFUSED:
        return ConfigError(
            "SUPABASE_SECRET_KEY",
            f"is refused by the project ({error.reason}); take a secret key from its dashboard"
            " (Project Settings, API Keys), or sign a user in: conv-realtime login",
        )
    if error.code.isdigit() and len(error.code) == 3:
        return ConfigError(
            "SUPABASE_URL",
            f"leads to no Supabase project (HTTP {error.code}); its dashboard shows the URL"
            " (Project Settings, Data API)",
        )
    return error


@dataclass(slots=True)
class _Answer:
    """What supabase-py does not pass on of an answer, where the client is one of `http_client`.

    `status` is 0 while there is none; `ranged` says whether it tells which rows it has, as all of
    PostgREST's do where some of a table were asked for.
    """

    status: int = 0
    retry_after: float | None = None
    ranged: bool = True


_answer: ContextVar[_Answer | None] = ContextVar("answer", default=None)


def http_client(timeout: float, session: UserSession | None = None) -> httpx.AsyncClient:
    """Return an HTTP client whose answers `mapped` knows by status and headers.

    With a session its requests speak for that user. An answer is given up, like one that does not
    come, when its body takes longer than `timeout` seconds and one more for each 8 KiB.

    HTTP/1.1 on purpose: over HTTP/2 an idle connection that the server has dropped fails the
    next request (supabase-py#1064). A hook and no transport of our own, which would turn the
    proxies of the environment off.
    """
    made = httpx.AsyncClient if session is None else session.client
    return made(timeout=timeout, event_hooks={"response": [partial(_keep_answer, timeout)]})


class _Whole(httpx.AsyncByteStream):
    """An answer that has to end: httpx counts the time to the next byte, and no bytes."""

    def __init__(self, answer: httpx.AsyncByteStream, seconds: float) -> None:
        self._answer = answer
        self._seconds = seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        begun, received = time.monotonic(), 0
        async for part in self._answer:
            received += len(part)
            late = time.monotonic() - begun > self._seconds + received / _SLOWEST
            if late or received > _MAX_BYTES:
                raise httpx.ReadTimeout("the answer does not end")
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


async def _keep_answer(seconds: float, response: httpx.Response) -> None:
    if isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _Whole(response.stream, seconds)
    if (answer := _answer.get()) is not None:
        answer.status = response.status_code
        answer.retry_after = asked_to_wait(response.headers, datetime.now(UTC))
        asked = response.request.method
        answer.ranged = asked != "GET" or "content-range" in response.headers


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Turn what supabase-py and httpx raise into a `StoreError` about `what`.

    What somebody else than PostgREST answers is an error, too, whatever it says: `[]` is no row.
    """
    answer = _Answer()
    token = _answer.set(answer)
    try:
        yield
        if not answer.ranged:
            raise stranger(what)
    except APIError as error:
        # Gateways in front of PostgREST answer in JSON as well, without a code.
        code = str(error.code or answer.status or "unknown")
        reason, retry_after = _reason(code, error), answer.retry_after
        raise StoreError(
            what, code, reason, retryable=passes(code), retry_after=retry_after
        ) from error
    except (httpx.TransportError, httpx.TimeoutException, OSError) as error:
        reason = str(error) or "no answer"
        raise StoreError(what, type(error).__name__, reason, retryable=True) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StoreError(what, type(error).__name__, str(error)[:200], retryable=False) from error
    except ValueError as error:
        if answer.status:
            raise stranger(what) from error
        # Not its text: it quotes the row.
        reason = f"holds what cannot be sent as JSON ({type(error).__name__})"
        raise StoreError(what, UNENCODABLE, reason, retryable=False) from error
    finally:
        _answer.reset(token)


def _reason(code: str, error: APIError) -> str:
    """Return one line for a person. Details and hints may quote the row, so may class 22."""
    line = (error.message or "no message").splitlines()[0]
    if code.startswith("22"):
        line = re.sub(r'"[^"]*("|$)', '"…"', line)
    return line[:200]


def stranger(what: str) -> StoreError:
    """Return the error of an answer that is not PostgREST's, whatever its status."""
    reason = "what answers is no Supabase project; see SUPABASE_URL and the network"
    return StoreError(what, "unknown", reason, retryable=True)

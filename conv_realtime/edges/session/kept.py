"""The file that says who has signed in: `session.json` in the state directory, mode 0600."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from conv_realtime import shared_files

_NAME = "session.json"
_LOCK = "session.lock"
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Kept:
    """A session.

    Attributes:
        url: of the project.
        user_id: who has signed in.
        email: theirs, as far as it is known.
        renew_at: when to renew it, by this machine's clock (Unix seconds): a server's own time
            of expiry would mislead one that is wrong.
        expires_at: when the token stops working, by the same clock.
    """

    url: str
    user_id: UUID
    email: str | None
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    renew_at: float
    expires_at: float


def read_session(state_dir: Path) -> Kept | None:
    """Return the session, None where nobody has signed in, or the file is damaged.

    Raises:
        OSError: it cannot be read: who has signed in cannot be told.
    """
    try:
        known: dict[str, Any] = json.loads((state_dir / _NAME).read_text(encoding="utf-8"))
        return Kept(**{**known, "user_id": UUID(known["user_id"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError, AttributeError):  # it is damaged
        return None


def keep_session(state_dir: Path, session: Kept) -> None:
    """Write the session; whoever reads meanwhile gets the old one or the new one.

    It is on the disk before this returns: the refresh token before it works no longer.

    Raises:
        OSError: it cannot be kept.
    """
    shared_files.write_closed(state_dir / _NAME, json.dumps(asdict(session), default=str))


def forget_session(state_dir: Path) -> None:
    """Remove the session; does nothing where there is none."""
    shared_files.remove(state_dir / _NAME)


@asynccontextmanager
async def turn(state_dir: Path) -> AsyncIterator[None]:
    """Wait until no other process renews the session; the lock goes with the process.

    A refresh token works once: of two processes that use the same one, the later is refused,
    and with it the whole session.
    """
    while True:
        descriptor = shared_files.take_lock(state_dir / _LOCK)
        if descriptor is not None:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)

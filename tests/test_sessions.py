"""A session that several processes use for months, through everything that happens to it."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from conv_realtime import Bridge, Settings
from conv_realtime.edges.session import AuthServer as Client
from conv_realtime.edges.session import SignedIn, keep_session, read_session, signed_in
from conv_realtime.edges.store import http_client
from conv_realtime.edges.store.queries import call
from conv_realtime.errors import ConfigError, SessionError
from conv_realtime.ingest import pace
from conv_realtime.supabase_client import new_client
from conv_realtime.testing import SupabaseLocal, claude_line
from tests.auth_server import AuthServer, auth_server
from tests.ingest.running import until

EMAIL, PASSWORD = "ada@example.com", "correct horse"


@pytest.fixture
def auth(supabase_local: SupabaseLocal) -> Iterator[AuthServer]:
    """The project's auth server; it forgives no token that is used twice."""
    with auth_server(supabase_local) as server:
        server.reuse_interval = 0.0
        server.add_user(EMAIL, PASSWORD, supabase_local.owner_id)
        yield server


def settings(supabase: SupabaseLocal, folder: Path, **more: Any) -> Settings:
    """Settings of a laptop."""
    return Settings.load(
        supabase_url=supabase.url,
        supabase_key=supabase.publishable_key,
        state_dir=folder,
        machine="laptop",
        paths=[folder / "projects"],
        rest_seconds=0.05,
        sweep_seconds=0.2,
        **more,
    )


async def login(supabase: SupabaseLocal, folder: Path, email: str = EMAIL) -> None:
    """Sign in, as the command does."""
    async with httpx.AsyncClient() as http:
        client = Client(supabase.url, supabase.publishable_key, http)
        keep_session(folder, await client.by_password(email, PASSWORD))


def session_of(supabase: SupabaseLocal, folder: Path) -> SignedIn:
    """The session as a process has it that starts now."""
    session = signed_in(settings(supabase, folder))
    assert session is not None
    return session


async def test_many_tasks_and_processes_renew_it_once(
    supabase_local: SupabaseLocal, auth: AuthServer, tmp_path: Path
) -> None:
    """Each token that ends is renewed by one of them; all others take over what it got."""
    await login(supabase_local, tmp_path)
    processes = [session_of(supabase_local, tmp_path) for _ in range(4)]
    for renewals in (1, 2):
        kept = read_session(tmp_path)
        assert kept is not None
        keep_session(tmp_path, replace(kept, renew_at=0))
        for process in processes:
            process._kept = replace(process._kept, renew_at=0)
        tokens = await asyncio.gather(*(one.token() for one in processes for _ in range(5)))
        assert len(set(tokens)) == 1
        assert auth.renewals == renewals
    assert not auth.sessions[0].ended


async def test_an_answer_that_is_lost_ends_nothing(
    supabase_local: SupabaseLocal, auth: AuthServer, tmp_path: Path
) -> None:
    """Or a process that dies before it has kept the answer: the next one gets it once more."""
    auth.lifetime = 0
    await login(supabase_local, tmp_path)
    auth.lost, auth.lifetime = 1, 3600
    with pytest.raises(SessionError) as lost:
        await session_of(supabase_local, tmp_path).token()
    assert lost.value.retryable
    assert await session_of(supabase_local, tmp_path).token()
    assert auth.renewals == 1
    assert not auth.sessions[0].ended


async def test_a_full_disk_ends_nothing(
    supabase_local: SupabaseLocal,
    auth: AuthServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What cannot be kept is used from memory, until it can."""
    import sys

    module = sys.modules[SignedIn.__module__]
    auth.lifetime = 0
    await login(supabase_local, tmp_path)
    session = session_of(supabase_local, tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "keep_session", full)
        for _ in range(3):
            await session.token()
    assert "cannot be kept" in caplog.text
    await session.token()
    assert (auth.renewals, auth.sessions[0].ended) == (4, False)
    kept = read_session(tmp_path)
    assert kept is not None and kept.refresh_token == auth.sessions[0].tokens[-1]


async def test_while_the_auth_server_is_away_the_token_is_used_up(
    supabase_local: SupabaseLocal, auth: AuthServer, tmp_path: Path
) -> None:
    """It is renewed ahead of time; only one that has really ended is an error, and that passes."""
    await login(supabase_local, tmp_path)
    session = session_of(supabase_local, tmp_path)
    session._kept = kept = replace(session._kept, renew_at=0)
    auth.away = True
    assert await session.token() == kept.access_token
    session._kept = replace(kept, expires_at=0)
    with pytest.raises(SessionError) as away:
        await session.token()
    assert away.value.retryable
    auth.away = False
    assert await session.token() != kept.access_token


async def test_a_token_that_the_server_finds_too_old_is_renewed_on_the_way(
    supabase_local: SupabaseLocal, auth: AuthServer, tmp_path: Path
) -> None:
    """Whatever our clock says: the request is sent once more, with another token."""
    await login(supabase_local, tmp_path)
    session = session_of(supabase_local, tmp_path)
    supabase_local.faults.expire_tokens()
    async with http_client(5, session) as http:
        client = await new_client(settings(supabase_local, tmp_path), http)
        assert await call(client, "schema_version")
    assert auth.renewals == 1


async def test_another_user_is_never_spoken_for(
    supabase_local: SupabaseLocal, auth: AuthServer, tmp_path: Path
) -> None:
    """Who signs in beside a running process is not the one whose rows it writes."""
    auth.lifetime = 0
    auth.add_user("eve@example.com", PASSWORD)
    await login(supabase_local, tmp_path)
    session = session_of(supabase_local, tmp_path)
    await login(supabase_local, tmp_path, "eve@example.com")
    with pytest.raises(SessionError, match=r"eve@example\.com has signed in instead"):
        await session.token()
    assert str(session.user_id) == supabase_local.owner_id


async def test_a_secret_key_needs_no_session(
    supabase_local: SupabaseLocal, auth: AuthServer, tmp_path: Path
) -> None:
    """Who has set one does not run as whoever happens to be signed in."""
    await login(supabase_local, tmp_path)
    assert signed_in(settings(supabase_local, tmp_path)) is not None
    for key in (supabase_local.secret_key, supabase_local.token(), "sb_secret_x"):
        given = settings(supabase_local, tmp_path).model_copy()
        assert signed_in(Settings.load(supabase_url=given.supabase_url, supabase_key=key,
                                       state_dir=tmp_path)) is None  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"user_id": 3}', '{"user_id": "x"}'])
async def test_a_damaged_file_is_nobody(tmp_path: Path, text: str) -> None:
    """It is written whole or not at all; what somebody else made of it is no reason to fail."""
    (tmp_path / "session.json").write_text(text)
    assert read_session(tmp_path) is None


async def test_an_owner_who_is_not_signed_in_is_refused(
    supabase_local: SupabaseLocal, auth: AuthServer, tmp_path: Path
) -> None:
    """Before anything is sent."""
    await login(supabase_local, tmp_path)
    other = "5e551011-0000-4000-8000-0000000000ff"
    with pytest.raises(ConfigError, match="is signed in"):
        async with Bridge(settings=settings(supabase_local, tmp_path, owner_id=other)):
            pass


@asynccontextmanager
async def _bridge(supabase: SupabaseLocal, folder: Path) -> AsyncIterator[Bridge]:
    (folder / "projects").mkdir()
    async with Bridge(settings=settings(supabase, folder)) as bridge:
        yield bridge


async def _texts(supabase: SupabaseLocal) -> list[str]:
    async with await psycopg.AsyncConnection.connect(supabase.db_url) as connection:
        rows = await connection.execute("select text from public.messages order by seq")
        return [text for (text,) in await rows.fetchall()]


async def _arrived(supabase: SupabaseLocal, *said: str) -> None:
    async with asyncio.timeout(20):
        while await _texts(supabase) != list(said):  # noqa: ASYNC110 (it is another process)
            await asyncio.sleep(0.05)


def _say(folder: Path, text: str) -> None:
    with (folder / "projects" / "s.jsonl").open("ab") as file:
        file.write(claude_line(text, uuid=text))


async def test_a_session_that_ends_while_running_loses_nothing(
    supabase_local: SupabaseLocal,
    auth: AuthServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """/healthz says to sign in again; what was written meanwhile arrives when somebody has."""
    monkeypatch.setattr(pace, "LONGEST_DELAY", 0.1)
    await login(supabase_local, tmp_path)
    async with _bridge(supabase_local, tmp_path) as bridge:
        _say(tmp_path, "before")
        await _arrived(supabase_local, "before")
        auth.sessions[0].ended = True
        supabase_local.faults.expire_tokens()
        _say(tmp_path, "meanwhile")
        await until(lambda: "conv-realtime login" in _trouble(bridge))
        assert bridge.health()[1]["status"] == "degraded"
        await login(supabase_local, tmp_path)
        await _arrived(supabase_local, "before", "meanwhile")
        await until(lambda: not _trouble(bridge))


def _trouble(bridge: Bridge) -> str:
    return str(bridge.health()[1]["ingest"]["last_error"] or "")


async def test_tokens_that_live_a_second_are_renewed_under_load(
    supabase_local: SupabaseLocal, auth: AuthServer, tmp_path: Path
) -> None:
    """Line after line through several renewals, and beside it a relay with the same session."""
    auth.lifetime = 1.0
    await login(supabase_local, tmp_path)
    said: list[str] = []
    async with _bridge(supabase_local, tmp_path) as bridge:
        async with Bridge(settings=settings(supabase_local, tmp_path)) as beside:
            assert (bridge.ingesting, beside.ingesting) == (True, False)
            ended = time.monotonic() + 2.5
            while time.monotonic() < ended or auth.renewals < 3:
                said.append(str(len(said)))
                _say(tmp_path, said[-1])
                await asyncio.sleep(0.05)
            await _arrived(supabase_local, *said)
            await until(lambda: beside.health()[1]["feed"]["state"] in ("live", "polling"))
    assert not auth.sessions[0].ended


async def test_a_session_that_cannot_be_read_is_not_taken_for_none(
    supabase_local: SupabaseLocal, auth: AuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has signed out: who starts is told what to do, and who runs asks again."""
    auth.lifetime = 0
    await login(supabase_local, tmp_path)
    running = session_of(supabase_local, tmp_path)

    def closed(path: Path, encoding: str) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Path, "read_text", closed)
        with pytest.raises(ConfigError, match=r"session\.json cannot be used: Permission denied"):
            signed_in(settings(supabase_local, tmp_path))
        with pytest.raises(SessionError) as told:
            await running.token()
    assert told.value.retryable
    assert await running.token()

"""The supabase feed while keys and sessions end, are renewed, or cannot be told."""

from __future__ import annotations

import time
from typing import Any

import pytest
from supabase import AsyncClient
from supabase_auth.types import Session, User

from conv_realtime.edges.feed import wakeups
from conv_realtime.testing import SupabaseLocal
from tests.relay.serving import eventually, settings
from tests.relay.test_supabase_feed import client_of
from tests.relay.trial import NEVER, SOON, Recorded, live, trial

# realtime-py reads deprecated attributes when its connection breaks; as errors they would end it.
pytestmark = pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning")


MOMENT: Any = "2026-01-01T00:00:00Z"


def session_of(supabase: SupabaseLocal, token: str, expires_in: int = 3600) -> Session:
    """Return a session as supabase-py keeps it."""
    user = User(id=supabase.owner_id, app_metadata={}, user_metadata={}, aud="x", created_at=MOMENT)
    return Session(
        access_token=token,
        refresh_token="-",
        expires_in=expires_in,
        expires_at=int(time.time()) + expires_in,
        token_type="bearer",
        user=user,
    )


async def signed_in(client: AsyncClient, session: Session) -> None:
    """Give a client a session, as its application does after a sign-in or a refresh."""
    await client.auth._save_session(session)
    client.auth._notify_all_subscribers("TOKEN_REFRESHED", session)


async def test_an_expired_session_goes_on_when_it_is_refreshed(
    supabase_local: SupabaseLocal,
) -> None:
    """401s and a closed channel while the token is old; then all that was missed, and live."""
    async with client_of(supabase_local, supabase_local.publishable_key) as client:
        await signed_in(client, session_of(supabase_local, supabase_local.token()))
        feed = Recorded(settings(reconcile_interval=SOON, request_timeout=5.0), client=client)
        async with trial(supabase_local, feed) as tried:
            await tried.until("live")
            assert supabase_local.faults.drop_sockets(f"conv_realtime:owner:{tried.me}") == 1
            await tried.until("live")
            supabase_local.faults.expire_tokens()
            await tried.until("down")
            await tried.say()
            await signed_in(client, session_of(supabase_local, supabase_local.token()))
            await tried.hears_all()
            await tried.until("live")
            await tried.say()
            await tried.hears_all()


async def test_a_token_is_renewed_however_busy_it_is(
    supabase_local: SupabaseLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where wake-ups leave no pause, Realtime hears of a new token all the same.

    It does not acknowledge it: realtime-py's waiting for that ends with the feed.
    """
    monkeypatch.setattr(wakeups, "CONNECT_SECONDS", 60)
    async with client_of(supabase_local, supabase_local.publishable_key) as client:
        await signed_in(client, session_of(supabase_local, supabase_local.token()))
        feed = Recorded(settings(reconcile_interval=NEVER, request_timeout=5.0), client=client)
        async with trial(supabase_local, feed) as tried:
            await tried.until("live")
            wake = feed._wakeups
            assert wake is not None and wake._client is not None
            connection, renewed = wake._client, supabase_local.token()
            await client.auth._save_session(session_of(supabase_local, renewed))
            await tried.say()
            await tried.hears_all()
            await eventually(lambda: connection.access_token == renewed, "it has the new one")
            assert wake._client is connection


async def test_without_the_auth_server_it_joins_no_topic_of_others(
    supabase_local: SupabaseLocal,
) -> None:
    """Whose session it is cannot be told at first; when it can, their own topic is joined."""
    async with client_of(supabase_local, supabase_local.publishable_key) as client:
        await signed_in(client, session_of(supabase_local, supabase_local.token(), -60))
        feed = Recorded(settings(reconcile_interval=SOON, request_timeout=5.0), client=client)
        async with trial(supabase_local, feed) as tried:
            await tried.until("polling")
            await signed_in(client, session_of(supabase_local, supabase_local.token()))
            await tried.until("live")
            await tried.say()
            await tried.hears_all()
            assert supabase_local.faults.drop_sockets(f"conv_realtime:owner:{tried.me}") == 1


async def test_a_key_that_is_refused_for_a_while(supabase_local: SupabaseLocal) -> None:
    """While keys are rotated the gateway says 401 to everything, Realtime's handshake too."""
    async with live(supabase_local) as tried:
        body = {"message": "Invalid API key"}
        with supabase_local.faults.answer(401, path="/rest/v1/rpc/*", body=body):
            with supabase_local.faults.answer(401, method="WEBSOCKET", body=body):
                supabase_local.faults.drop_sockets()
                await tried.until("down")
                await tried.say()
        await tried.hears_all()
        await tried.until("live")

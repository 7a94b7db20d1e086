"""Who may connect: each rule tried by somebody who should not come in."""

from __future__ import annotations

import base64
import json
import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr
from websockets.exceptions import InvalidStatus

from conv_realtime.edges.door import Admitted, Caller, Door, Refused
from conv_realtime.errors import ConfigError
from conv_realtime.relay import connections
from tests.relay.rows import OTHER, OWNER, conversation, created
from tests.relay.serving import Served, settings

SECRET = "a-secret-that-is-long-enough-for-hs256"
LOCAL = {"host": "127.0.0.1:8787"}
REMOTE = {"host": "relay.example"}
APP = "https://app.example"


def token(secret: str = SECRET, **claims: Any) -> str:
    """Return a signed token of OWNER that is good for a minute."""
    claims = {"sub": str(OWNER), "exp": time.time() + 60, "role": "authenticated", **claims}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, secret, "HS256")


def door(**values: Any) -> Door:
    """Return a door that takes a static token and user tokens, and pages of APP."""
    values = {
        "allowed_origins": [APP],
        "ws_token": SecretStr("static"),
        "supabase_jwt_secret": SecretStr(SECRET),
        **values,
    }
    return Door(settings(**values))


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "127.9.9.9", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8787", "[::1]:8787"])
@pytest.mark.parametrize(
    "origin", [None, "http://localhost:3000", "https://127.0.0.1", "http://[::1]"]
)
def test_this_machine_needs_no_token(peer: str, host: str, origin: str | None) -> None:
    """A loopback peer that names a loopback host comes in, with a loopback page or none."""
    headers = {"host": host} | ({"origin": origin} if origin else {})
    assert door().admit(Caller(peer, headers)) == Admitted()


def test_starlettes_test_client_is_this_machine() -> None:
    """Its peer and host names are not addresses, and nobody else can have them."""
    assert door().admit(Caller("testclient", {"host": "testserver"})) == Admitted()


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("127.0.0.1", {**LOCAL, "origin": "https://evil.example"}, 403),  # cross-site page
        ("127.0.0.1", {**LOCAL, "origin": "null"}, 403),  # sandboxed page
        ("127.0.0.1", {**LOCAL, "origin": "http://localhost.evil.example"}, 403),
        ("127.0.0.1", {**LOCAL, "origin": "http://127.0.0.1.evil.example"}, 403),
        ("127.0.0.1", {**LOCAL, "origin": "http://127.0.0.1@evil.example"}, 403),
        ("127.0.0.1", {**LOCAL, "origin": "http://[::1"}, 403),
        ("127.0.0.1", {**LOCAL, "origin": "http://evil.example@localhost"}, 403),
        ("127.0.0.1", {**LOCAL, "origin": "http://localhost/.evil.example"}, 403),
        ("127.0.0.1", {**LOCAL, "origin": "http://localhost:80.evil.example"}, 403),
        ("127.0.0.1", {**LOCAL, "origin": "http://[::1].evil.example"}, 403),
        ("127.0.0.1", {"host": "localhost:80.evil.example"}, 401),
        ("127.0.0.1", {"host": "evil.example\\@localhost"}, 401),
        ("127.0.0.1", {**LOCAL, "origin": APP}, 401),
        ("127.0.0.1", {"host": "evil.example"}, 401),  # DNS rebinding, without a page
        ("127.0.0.1", {"host": "evil.example", "origin": "http://evil.example"}, 403),
        ("127.0.0.1", {"host": "0.0.0.0:8787"}, 401),
        ("127.0.0.1", {}, 401),
        ("127.0.0.1", {**LOCAL, "x-forwarded-for": "127.0.0.1"}, 401),
        ("127.0.0.1", {**LOCAL, "x-forwarded-proto": "https"}, 401),
        ("127.0.0.1", {**LOCAL, "forwarded": "for=127.0.0.1"}, 401),
        ("127.0.0.1", {**LOCAL, "via": "1.1 proxy"}, 401),
        ("127.0.0.1", {**LOCAL, "x-real-ip": "192.0.2.1"}, 401),
        ("127.0.0.1", {**LOCAL, "x_forwarded_for": "192.0.2.1"}, 401),
        ("127.0.0.1", {**LOCAL, "cf-connecting-ip": "192.0.2.1"}, 401),
        ("127.0.0.1", {**LOCAL, "true-client-ip": "192.0.2.1"}, 401),
        ("192.0.2.1", LOCAL, 401),
        ("192.0.2.1", {**REMOTE, "origin": APP}, 401),
        ("192.0.2.1", {"host": "testserver"}, 401),
        (None, LOCAL, 401),  # a Unix socket, behind who knows what
    ],
)
def test_others_need_more_than_an_address(
    peer: str | None, headers: dict[str, str], status: int
) -> None:
    """A foreign page is 403; anything that is not this machine is 401 without a token."""
    answer = door().admit(Caller(peer, headers))
    assert isinstance(answer, Refused) and answer.status == status


def test_a_token_that_nests_too_deep_is_refused() -> None:
    """A header that no JSON parser takes is a bad token, not a failure of the server."""
    header = base64.urlsafe_b64encode(b"[" * 6000).decode().rstrip("=")
    answer = door().admit(Caller("192.0.2.1", REMOTE, f"{header}.e30.AAAA"))
    assert answer == Refused(401, "the token is not valid")


@pytest.mark.parametrize("origin", [None, APP, APP.upper(), "file://", "null"])
def test_a_token_opens_from_anywhere_but_foreign_pages(origin: str | None) -> None:
    """A static token sees all rows, a user's token its owner's, in each of three places."""
    headers = REMOTE | ({"origin": origin} if origin else {})
    opened = door(allowed_origins=[f"{APP}/", "file://", "null"])
    mine = token()
    for credentials, owner in (("static", None), (mine, OWNER)):
        callers = [
            Caller("192.0.2.1", {**headers, "authorization": f"Bearer {credentials}"}),
            Caller("192.0.2.1", headers, token=credentials),
            Caller("192.0.2.1", headers, subprotocols=["conv_realtime", f"bearer.{credentials}"]),
        ]
        for caller in callers:
            answer = opened.admit(caller)
            assert isinstance(answer, Admitted) and answer.owner == owner
    refused = opened.admit(Caller("192.0.2.1", {**headers, "origin": "https://evil.example"}, mine))
    assert refused == Refused(403, "this origin may not connect")


def test_a_token_of_a_server_whose_clock_is_ahead_opens() -> None:
    """It was made just now, by that clock: this machine's may be some seconds behind."""
    answer = door().admit(Caller("192.0.2.1", REMOTE, token(iat=time.time() + 5)))
    assert isinstance(answer, Admitted) and answer.owner == OWNER


@pytest.mark.parametrize(
    "bad",
    [
        "Static",
        "x.y.z",
        token("another-secret-that-is-long-enough-too"),
        token(exp=time.time() - 1),
        token(sub=None, role="anon"),
        token(sub="everybody"),
        token(nbf=time.time() + 600),
        jwt.encode({"sub": str(OWNER)}, "", "none"),
        "é",
    ],
)
@pytest.mark.parametrize("peer", ["192.0.2.1", "127.0.0.1"])
def test_a_bad_token_is_refused(bad: str, peer: str) -> None:
    """Forged, expired, early, nameless or unsigned tokens do not open, from here neither."""
    answer = door().admit(Caller(peer, {**LOCAL, "authorization": f"Bearer {bad}"}))
    assert isinstance(answer, Refused) and answer.status == 401
    assert bad not in answer.reason


def test_a_token_signed_with_a_project_key_is_checked_by_its_key_set() -> None:
    """Asymmetric tokens open with the right key id and key only; HS256 needs the secret."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    keys = json.dumps({"keys": [{**public, "kid": "k1", "alg": "ES256"}]})
    checking = door(supabase_jwks=keys, supabase_jwt_secret=None)

    def admit(text: str) -> Admitted | Refused:
        return checking.admit(Caller("192.0.2.1", REMOTE, token=text))

    def signed(by: Any, kid: str) -> str:
        claims = {"sub": str(OWNER), "exp": time.time() + 60}
        return jwt.encode(claims, by, "ES256", headers={"kid": kid})

    good = admit(signed(key, "k1"))
    assert isinstance(good, Admitted) and good.owner == OWNER
    for bad in (signed(other, "k1"), signed(key, "k2"), token()):
        assert isinstance(admit(bad), Refused)


def test_a_broken_key_set_is_named() -> None:
    """A key set that cannot be read is a matter of settings, not of clients."""
    with pytest.raises(ConfigError, match="supabase_jwks"):
        door(supabase_jwks="{}")


@pytest.mark.parametrize("named", ["app.example", "*", "https://*.example", f"{APP}/page"])
def test_what_no_page_can_come_from_is_named(named: str) -> None:
    """A host alone, a pattern or an address would let nobody in, without a word."""
    with pytest.raises(ConfigError, match="allowed_origins"):
        door(allowed_origins=[APP, named])


def test_without_any_token_settings_a_local_page_may_send_one() -> None:
    """A page that always sends its token works on this machine, where nothing checks it."""
    open_door = Door(settings())
    assert open_door.admit(Caller("127.0.0.1", LOCAL, token="whatever")) == Admitted()
    assert isinstance(open_door.admit(Caller("192.0.2.1", LOCAL, token="whatever")), Refused)


async def test_refusal_is_an_http_answer_before_the_upgrade(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A foreign page gets 403, a missing token 401, and no token is printed or logged."""
    values = {"ws_token": SecretStr("sesame-open"), "allowed_origins": [APP]}
    uvicorn_options = {"log_config": None, "log_level": "info"}
    caplog.set_level("INFO")
    async with Served.run(uvicorn_options, **values) as served:
        for headers, status in (({"Origin": "https://evil.example"}, 403), ({"Via": "x"}, 401)):
            with pytest.raises(InvalidStatus) as refused:
                async with served.client(additional_headers=headers):
                    pass
            assert refused.value.response.status_code == status
        with pytest.raises(InvalidStatus) as refused:
            async with served.client("?token=sesame-opem&x=1", additional_headers={"Via": "x"}):
                pass
        assert refused.value.response.status_code == 401
        for query in ("?token=sesame-open", "?%74oken=sesame-open"):
            async with served.client(query, additional_headers={"Via": "x"}) as client:
                assert (await client.next())["type"] == "connection_established"
    assert "/ws?token=***&x=1" in caplog.text
    assert "sesame" not in caplog.text


async def test_a_user_sees_their_own_rows_until_the_token_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The owner limit holds whatever is subscribed to; then comes 4401."""
    expiry = time.time() + 3600
    async with Served.run(supabase_jwt_secret=SecretStr(SECRET)) as served:
        offered: Any = ["conv_realtime", f"bearer.{token(exp=expiry)}"]
        async with served.client(subprotocols=offered) as client:
            assert client.connection.subprotocol == "conv_realtime"
            await client.next()
            theirs = conversation(owner=OTHER)
            served.feed.publish(created(theirs, conversation(owner=OWNER)))
            assert UUID((await client.next())["data"]["id"]) == conversation().id
            await client.say("subscribe", {"conversations": [str(theirs.id)]})
            await client.got("subscribed")
            served.feed.publish(created(theirs))
            served.feed.file_changed("/secret", "created", 1)
            assert await client.sync() == []
        clock = iter([expiry - 0.1])
        monkeypatch.setattr(connections, "time", SimpleNamespace(time=lambda: next(clock, expiry)))
        async with served.client(subprotocols=offered) as client:
            assert await client.closed() == 4401


async def test_a_token_that_expires_while_the_machine_sleeps_ends_after_a_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Timers stand still meanwhile: only the clock has gone on."""
    expiry = time.time() + 3600
    clock = SimpleNamespace(time=time.time)
    monkeypatch.setattr(connections, "time", clock)
    async with Served.run(supabase_jwt_secret=SecretStr(SECRET), heartbeat_seconds=0.2) as served:
        async with served.client(f"?token={token(exp=expiry)}") as client:
            await client.next()
            await client.sync()
            clock.time = lambda: expiry
            assert await client.closed() == 4401

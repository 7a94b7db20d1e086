"""Clients that mean harm, on real sockets: each tries one thing, and somebody else goes on."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
import zlib
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from conv_realtime.relay import connections, laggards
from conv_realtime.relay import dialogue as dialogue_module
from conv_realtime.relay import hub as hub_module
from tests.relay.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEADLINE,
    PING,
    PONG,
    TEXT,
    Raw,
    masked,
    request,
)
from tests.relay.rows import OWNER, created, message
from tests.relay.serving import Served, eventually
from tests.relay.test_fanout import split_frames

SECRET = "a-secret-that-is-long-enough-for-hs256"
IMPLEMENTATIONS = ["websockets-sansio", "wsproto", "websockets"]
"""What uvicorn speaks WebSocket with; by the last, deprecated, frames go the portable way."""

pytestmark = pytest.mark.filterwarnings(
    "ignore:The .websockets. implementation is deprecated",
    "ignore:websockets.(legacy|server.WebSocketServerProtocol) is deprecated",
    "ignore:remove second argument of ws_handler",
)


def serving(implementation: str = "websockets-sansio", **values: Any) -> Any:
    """Serve as somebody's own uvicorn would: all its defaults, access log and all."""
    options = {"ws": implementation, "log_config": None, "log_level": "info"}
    return Served.run(options, **values)


# Who gets in -------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_who_is_not_here_needs_a_token_and_a_page_an_allowed_origin(
    implementation: str,
) -> None:
    """Foreign pages, rebound names and forwarded requests stop before the upgrade."""
    values = {"ws_token": SecretStr("sesame"), "allowed_origins": ["https://app.example"]}
    token = {"Authorization": "Bearer sesame"}
    app, evil = {"Origin": "https://app.example"}, {"Origin": "https://evil.example"}
    tries: list[tuple[int, dict[str, str]]] = [
        (101, {}),
        (101, {"Origin": "http://localhost:3000"}),
        (403, evil),  # a page somewhere opens a socket to this machine
        (403, {"Origin": "null"}),  # the same out of a sandboxed frame
        (403, {**evil, "Host": "evil.example"}),  # its name now leads to 127.0.0.1
        (401, {"Host": "evil.example"}),
        (403, {**evil, **token}),  # a token that a foreign page found does not help it
        (401, app),
        (101, {**app, **token}),
        (401, {"X-Forwarded-For": "203.0.113.9"}),  # a reverse proxy on this machine
        (401, {"Forwarded": "for=127.0.0.1"}),
        (401, {"Via": "1.1 proxy"}),
        (401, {"X-Real-IP": "127.0.0.1"}),
        (101, {"X-Forwarded-For": "203.0.113.9", **token}),
    ]
    async with serving(implementation, **values) as served:
        for status, headers in tries:
            async with Raw.open(served.server.port) as raw:
                await raw.send(request(headers=headers))
                assert (headers, await raw.status()) == (headers, status)


async def test_a_proxy_that_adds_nothing_looks_like_this_machine_unless_it_is_told() -> None:
    """What nginx sends without its headers is what a program here sends: a setting tells them."""
    bare = request(headers={"Host": "127.0.0.1:8787"})
    async with serving() as served, Raw.open(served.server.port) as raw:
        await raw.send(bare)
        assert await raw.status() == 101
    async with serving(trust_loopback=False, ws_token=SecretStr("sesame")) as served:
        async with Raw.open(served.server.port) as raw:
            await raw.send(bare)
            assert await raw.status() == 401
        async with Raw.open(served.server.port) as raw:
            await raw.send(request(headers={"Authorization": "Bearer sesame"}))
            assert await raw.status() == 101


def _part(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def _by_hand(header: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    """Return a token that no library would sign."""
    text = _part(header) + b"." + _part(claims)
    signature = hmac.new(key, text, hashlib.sha256).digest() if key else b""
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_forged_tokens_open_nothing_and_no_token_is_logged(
    implementation: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with the public key as the secret, nor unsigned, nor in the URL of the access log."""
    private, other = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    public = private.public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(public)), "kid": "k1", "alg": "RS256"}
    claims = {"sub": str(OWNER), "exp": int(time.time()) + 60}

    def signed(by: Any, algorithm: str = "RS256", **headers: Any) -> str:
        return jwt.encode(claims, by, algorithm, headers={"kid": "k1", **headers})

    own = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(other.public_key()))
    forged = [
        _by_hand({"alg": "none", "kid": "k1"}, claims, b""),
        _by_hand({"alg": "HS256", "kid": "k1"}, claims, pem),  # the public key as the secret
        _by_hand({"alg": "HS256", "kid": "k1"}, claims, pem.rstrip()),
        _by_hand({"alg": "HS256"}, claims, json.dumps(key).encode()),
        signed(other),
        signed(other, jwk=own),  # its key sent along
        signed(private, "RS512"),  # an algorithm that the key is not for
        signed(private).rsplit(".", 1)[0] + ".",
        jwt.encode({**claims, "exp": time.time() - 1}, private, "RS256", headers={"kid": "k1"}),
        jwt.encode({"exp": claims["exp"]}, private, "RS256", headers={"kid": "k1"}),
        jwt.encode(claims, SECRET[::-1], "HS256"),
        jwt.encode({"role": "anon", "exp": claims["exp"]}, SECRET, "HS256"),
    ]
    good = [signed(private), jwt.encode(claims, SECRET, "HS256")]
    values = {
        "supabase_jwks": json.dumps({"keys": [key]}),
        "supabase_jwt_secret": SecretStr(SECRET),
        "trust_loopback": False,
    }
    caplog.set_level("INFO")
    async with serving(implementation, **values) as served:
        for token in (*forged, *good):
            statuses = []
            for target, headers in (
                (f"/ws?token={token}&timestamp=1", {}),
                ("/ws", {"Authorization": f"Bearer {token}"}),
                ("/ws", {"Sec-WebSocket-Protocol": f"conv_realtime, bearer.{token}"}),
            ):
                async with Raw.open(served.server.port) as raw:
                    await raw.send(request(target, headers))
                    statuses.append(await raw.status())
            assert statuses == [101 if token in good else 401] * 3, token
        # A proxy that does not forward the upgrade makes it a plain request, which is logged too.
        for target in (f"/ws?token={good[0]}", f"/healthz?token={good[0]}"):
            async with Raw.open(served.server.port) as raw:
                head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                await raw.send(head.encode())
                assert await raw.status() == (426 if "/ws" in target else 200)
    assert caplog.text.count("/ws?token=***") >= len(forged) + len(good) + 1
    assert "/healthz?token=***" in caplog.text
    assert not [token for token in (*forged, *good) if token.rsplit(".", 1)[0] in caplog.text]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_a_token_that_expires_ends_a_client_that_reads_nothing(
    implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets 4401, and its line is cut whether or not it takes note."""
    expiry = int(time.time()) + 3600
    token = jwt.encode({"sub": str(OWNER), "exp": expiry}, SECRET, "HS256")
    clock = iter([expiry - 0.1])
    monkeypatch.setattr(connections, "time", SimpleNamespace(time=lambda: next(clock, expiry)))
    async with serving(implementation, supabase_jwt_secret=SecretStr(SECRET)) as served:
        headers = {"Authorization": f"Bearer {token}"}
        async with Raw.upgraded(served.server.port, headers=headers) as raw:
            await raw.ended()
        await eventually(lambda: not served.server.server.server_state.connections, "it is gone")


# Who is in, and says too much --------------------------------------------------------------


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was closed may read what was sent for a moment, not for five seconds."""
    monkeypatch.setattr(hub_module, "HANG_UP_SECONDS", 0.2)
    monkeypatch.setattr(hub_module, "LAST_WORD_SECONDS", 0.2)
    monkeypatch.setattr(dialogue_module, "_CLOSE_SECONDS", 0.2)


async def flood(raw: Raw, data: bytes) -> int:
    """Send `data` over and over, reading nothing; return how often until the line is cut."""
    number = 0
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await raw.send(data)
            except OSError:
                return number
            number += 1
            await asyncio.sleep(0)


@pytest.mark.parametrize("implementation", ["websockets-sansio", "wsproto"])
async def test_a_flood_of_pings_ends_with_1008(implementation: str) -> None:
    """Pings are answered by the server itself, into a buffer that nobody reads."""
    async with serving(implementation) as served, served.client() as healthy:
        await healthy.next()
        async with Raw.upgraded(served.server.port) as raw:
            await flood(raw, masked(PING, b"x" * 125) * 100)
        await eventually(lambda: len(served.relay.manager.hub.clients) == 1, "it is forgotten")
        await healthy.sync()
        async with Raw.upgraded(served.server.port, buffer=None) as raw:
            await raw.send(masked(PING, b"x") * 1200)
            data = await raw.rest()
        assert data.endswith(b"\x03\xf0too many frames")


async def test_a_message_of_endless_empty_parts_ends_with_1008() -> None:
    """Parts of no length never reach the limit of a message, and each is kept."""
    async with serving() as served:
        async with Raw.upgraded(served.server.port, buffer=None) as raw:
            await raw.send(masked(TEXT, fin=False))
            await raw.send(masked(CONTINUATION, fin=False) * 1200)
            assert (await raw.rest()).endswith(b"\x03\xf0too many frames")
        await eventually(lambda: not served.relay.manager.hub.clients, "it is forgotten")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_frames_beyond_the_limit_end_with_1009(implementation: str) -> None:
    """In one frame, in parts, compressed, or announced and never sent."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = bomb.compress(bytes(32 * 2**20)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    compressed = bytearray(masked(TEXT, packed[:-4]))
    compressed[0] |= 0x40
    half = b"x" * 40_000
    frames: dict[str, bytes] = {
        "giant": masked(TEXT, b"x" * 65_537),
        "parts": masked(TEXT, half, fin=False) + masked(CONTINUATION, half),
        "announced": b"\x81\xff" + (2**40).to_bytes(8),
        "bomb": bytes(compressed),
    }
    if implementation == "wsproto":
        del frames["announced"]  # it waits for the frame, and its size costs nothing until it comes
    deflate = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    async with serving(implementation) as served:
        for name, data in frames.items():
            async with Raw.upgraded(served.server.port, headers=deflate, buffer=None) as raw:
                await raw.send(data)
                ending = await raw.rest()
                assert b"\x03\xf1" in ending[-140:], (name, ending[-140:])
        await eventually(lambda: not served.relay.manager.hub.clients, "all are forgotten")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(TEXT, b"\xff"), 1007),
        (b"\x81\x02{}", 1002),  # not masked
        (b"\xf1\x80" + bytes(4), 1002),  # reserved bits
        (masked(CONTINUATION, b"x"), 1002),
        (masked(PING, b"x" * 126), 1002),
    ],
)
async def test_what_is_no_websocket_ends_and_is_forgotten(data: bytes, code: int) -> None:
    """Broken UTF-8, frames without a mask and parts of nothing: the server says what they are."""
    async with serving() as served:
        async with Raw.upgraded(served.server.port, buffer=None) as raw:
            await raw.send(data)
            assert code.to_bytes(2) in (await raw.rest())[-80:]
        await eventually(lambda: not served.relay.manager.hub.clients, "it is forgotten")


async def test_a_binary_frame_is_an_error_and_no_end() -> None:
    """It may be a mistake; a flood of them is one of frames."""
    async with serving() as served, Raw.upgraded(served.server.port, buffer=None) as raw:
        await raw.send(masked(BINARY, b"\0") + masked(TEXT, b'{"type": "ping"}'))
        data = b""
        while b'"pong"' not in data:
            data += await raw.read()
        frames, _ = split_frames(data)
        assert [frame["type"] for frame in frames][-2:] == ["error", "pong"]
        assert frames[-2]["data"]["code"] == "invalid_message"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_who_asks_and_never_reads_the_answers_is_not_asked_further(
    implementation: str,
) -> None:
    """Sixty thousand bytes of answer a request: they pile up to a bound, then the line is cut."""
    question = masked(TEXT, b'{"type":"ping","data":{"timestamp":"%s"}}' % (b"x" * 60_000))
    async with serving(implementation, heartbeat_seconds=0.4) as served:
        hub = served.relay.manager.hub
        async with Raw.upgraded(served.server.port) as raw:
            await eventually(lambda: hub.clients, "it is connected")
            (client,) = hub.clients.values()
            asking = asyncio.create_task(flood(raw, question), name="asking")
            most = 0
            while not asking.done():
                waiting = client.wire.waiting_bytes if client.wire else 0
                most = max(most, client.answer_bytes + waiting)
                await asyncio.sleep(0.005)
            await asking
        assert 100_000 < most < 1_500_000
        await eventually(lambda: not hub.clients, "it is forgotten")
        await eventually(lambda: not served.server.server.server_state.connections, "and gone")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_who_never_reads_events_is_gone_in_the_end(
    implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frames are dropped, then it is, and the server keeps no half-closed socket of it."""
    monkeypatch.setattr(laggards, "STALL_SECONDS", 0.2)
    async with serving(implementation, client_queue_bytes=50_000) as served:
        hub = served.relay.manager.hub
        async with Raw.upgraded(served.server.port):
            await eventually(lambda: hub.clients, "it is connected")
            seq = 0
            while hub.clients:
                seq += 1
                served.feed.publish(created(message("x" * 20_000, seq)))
                await asyncio.sleep(0.001)
                assert seq < 20_000
            await eventually(
                lambda: not served.server.server.server_state.connections, "its socket is closed"
            )


@pytest.mark.parametrize("implementation", ["websockets-sansio", "wsproto"])
async def test_who_says_goodbye_with_events_unread_is_gone(implementation: str) -> None:
    """A server would wait without end for somebody to read what is left."""
    async with serving(implementation) as served:
        hub, sockets = served.relay.manager.hub, served.server.server.server_state.connections
        async with Raw.upgraded(served.server.port) as raw:
            await eventually(lambda: hub.clients, "it is connected")
            (client,) = hub.clients.values()
            assert client.wire is not None
            while not client.wire.waiting_bytes:
                served.feed.publish(created(message("x" * 20_000)))
                await asyncio.sleep(0.001)
            await raw.send(masked(CLOSE, (1000).to_bytes(2)))
            await eventually(lambda: not hub.clients, "it is forgotten")
            await eventually(lambda: not sockets, "its socket is closed")


async def test_who_was_too_slow_and_reads_late_learns_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds `resync` and 1013 behind what it had not read, and holds up no shutdown."""
    monkeypatch.setattr(hub_module, "LAST_WORD_SECONDS", 30.0)
    monkeypatch.setattr(laggards, "STALL_SECONDS", 0.2)
    patient = {"ws": "websockets-sansio", "timeout_graceful_shutdown": 60}
    async with Served.run(patient, client_queue_bytes=50_000) as served:
        hub, sockets = served.relay.manager.hub, served.server.server.server_state.connections
        async with (
            Raw.upgraded(served.server.port) as late,
            Raw.upgraded(served.server.port) as never,
        ):
            await eventually(lambda: len(hub.clients) == 2, "they are connected")
            seq = 0
            while hub.clients:
                seq += 1
                served.feed.publish(created(message("x" * 20_000, seq)))
                await asyncio.sleep(0.001)
            await asyncio.sleep(2 * hub_module.HANG_UP_SECONDS)
            frames, _ = split_frames(await late.rest())
            assert [f["type"] if isinstance(f, dict) else f for f in frames[-2:]] == [
                "resync",
                1013,
            ]
            assert len(sockets) == 1
            served.server.server.should_exit = True
            await eventually(lambda: not sockets, "its line is cut")
            await never.rest()


async def test_a_client_that_answers_pings_and_reads_nothing_is_bounded() -> None:
    """The server's own pongs pile up a hundred a second at most, and to a bound."""
    from conv_realtime.relay import heartbeat

    async with serving(heartbeat_seconds=0.2) as served:
        hub = served.relay.manager.hub
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(heartbeat, "_WAITING_BYTES", 50_000)
            async with Raw.upgraded(served.server.port) as raw:
                await eventually(lambda: hub.clients, "it is connected")
                while hub.clients:  # about as often as it may
                    try:
                        await raw.send(masked(PING, b"x" * 125) + masked(PONG))
                    except OSError:
                        break
                    served.feed.publish(created(message("x" * 20_000)))
                    await asyncio.sleep(0.01)
        await eventually(lambda: not hub.clients, "it is forgotten")

"""The listeners of a load program: raw sockets in a process of their own, read at C's speed.

Frames are neither unmasked nor decoded: whatever framing the server uses, a broadcast holds its
payload as it is, and a regular expression finds the two numbers in it. One process spends about
4 µs on a frame, most of it in `recv`, which is why it can be trusted to tell what a server does.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import socket
import struct
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

_STAMP = re.compile(rb'"n": (\d+), "at": (\d+)')
_LONGEST_STAMP = 64
_JOINED = b'"status":"ok"'
_PING = b"\x89\x04"  # four bytes follow; uvicorn closes whoever does not give them back
_ENDS = b"}]"  # of every other frame
_HEARTBEAT_SECONDS = 20.0
_READ_BYTES = 1 << 18


@dataclass
class Heard:
    """What one phase brought.

    Attributes:
        microseconds: from the time in a broadcast to its arrival, one for each that arrived.
        counts: how often each broadcast arrived, by its number.
        cpu_seconds: of this process.
    """

    microseconds: array[int] = field(default_factory=lambda: array("q"))
    counts: dict[int, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0


class Listeners:
    """Many WebSocket connections, each with a buffer for what is cut between two reads."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._sockets: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}
        self._poll = select.epoll()
        self._beat_at = time.monotonic() + _HEARTBEAT_SECONDS

    def connect(self, count: int, path: str) -> None:
        """Opens connections, one after the other.

        Raises:
            ConnectionError: the server does not upgrade one.
        """
        for _ in range(count):
            opened = socket.create_connection(self._address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            key = base64.b64encode(os.urandom(16)).decode()
            opened.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            answer = opened.recv(4096)
            if b" 101 " not in answer.split(b"\r\n", 1)[0]:
                raise ConnectionError(answer.decode("latin-1"))
            self.adopt(opened)

    def adopt(self, opened: socket.socket) -> None:
        """Listens on a connection that is open."""
        opened.setblocking(False)
        descriptor = opened.fileno()
        self._sockets[descriptor] = opened
        self._tails[descriptor] = b""
        self._poll.register(descriptor, select.EPOLLIN)

    def join(self, topics: Sequence[Sequence[str]], tokens: Sequence[str]) -> None:
        """Joins private channels, those of one connection beside those of all others.

        Raises:
            ConnectionError: a join was refused, or not answered in a minute.
        """
        wanted = 0
        for opened, names, token in zip(self._sockets.values(), topics, tokens, strict=True):
            for ref, name in enumerate(names, 1):
                payload = {"config": {"private": True}, "access_token": token}
                push(opened, [str(ref), str(ref), f"realtime:{name}", "phx_join", payload])
                wanted += 1
        until = time.monotonic() + 60
        while wanted > 0:
            for _, data in self._arrived(1.0):
                if b'"status":"error"' in data:
                    raise ConnectionError(data.decode("utf-8", "replace")[:500])
                wanted -= data.count(_JOINED)
            if time.monotonic() > until:
                raise ConnectionError(f"{wanted} joins were not answered")

    def listen(self, done: Callable[[int], bool]) -> Heard:
        """Reads until `done`, which is asked with the number of broadcasts that have come."""
        heard = Heard()
        started = time.process_time()
        latencies, counts, tails = heard.microseconds, heard.counts, self._tails
        now, find = time.time_ns, _STAMP.finditer
        while not done(len(latencies)):
            for descriptor, data in self._arrived(0.1):
                arrived = now() // 1000
                buffer = tails[descriptor] + data
                end = 0
                for stamp in find(buffer):
                    number, at = stamp.groups()
                    end = stamp.end()
                    which = int(number)
                    latencies.append(arrived - int(at))
                    counts[which] = counts.get(which, 0) + 1
                tails[descriptor] = buffer[max(end, len(buffer) - _LONGEST_STAMP) :]
            self._beat()
        heard.cpu_seconds = time.process_time() - started
        return heard

    def _arrived(self, seconds: float) -> Any:
        """Yields what has come, by descriptor."""
        sockets = self._sockets
        for descriptor, _ in self._poll.poll(seconds):
            data = sockets[descriptor].recv(_READ_BYTES)
            if not data:
                raise ConnectionError("the server closed a connection")
            at = data.find(_PING)
            if at == 0 or (at > 0 and data[at - 1] in _ENDS):
                sockets[descriptor].sendall(b"\x8a\x84" + bytes(4) + data[at + 2 : at + 6])
            yield descriptor, data

    def _beat(self) -> None:
        if time.monotonic() < self._beat_at:
            return
        self._beat_at = time.monotonic() + _HEARTBEAT_SECONDS
        for opened in self._sockets.values():
            push(opened, [None, "0", "phoenix", "heartbeat", {}])


def push(opened: socket.socket, frame: object) -> None:
    """Sends a masked text frame; a mask of zeros is a mask."""
    body = json.dumps(frame).encode()
    size = bytes([0x80 | len(body)]) if len(body) < 126 else struct.pack("!BH", 0xFE, len(body))
    opened.sendall(b"\x81" + size + bytes(4) + body)


@dataclass(frozen=True)
class Order:
    """What the listening process is to do.

    Attributes:
        port: of the server on 127.0.0.1.
        path: of its WebSocket endpoint, with the query; None for a server that only writes.
        topics: of each connection.
        tokens: of each connection.
    """

    port: int
    path: str | None
    topics: Sequence[Sequence[str]]
    tokens: Sequence[str]


def run(order: Order, pipe: Connection) -> None:
    """The process: says how long connecting and joining took, then tells of each phase.

    Its pipe carries how many broadcasts have been sent in all once a phase is over; what does not
    come within ten quiet seconds is lost.
    """
    listeners = Listeners(order.port)
    began = time.monotonic()
    if order.path is None:
        for _ in order.topics:
            listeners.adopt(socket.create_connection(("127.0.0.1", order.port)))
    else:
        listeners.connect(len(order.topics), order.path)
    connected = time.monotonic()
    if order.path is not None:
        listeners.join(order.topics, order.tokens)
    pipe.send((os.getpid(), connected - began, time.monotonic() - connected))
    while pipe.recv():
        pipe.send(listeners.listen(_Phase(pipe)))


class _Phase:
    """Whether all has come that was sent, or nothing more will."""

    _QUIET_SECONDS = 10.0

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._wanted: int | None = None
        self._count = 0
        self._quiet_since = time.monotonic()

    def __call__(self, count: int) -> bool:
        if self._wanted is None:
            if not self._pipe.poll():
                return False
            self._wanted = self._pipe.recv()
            self._quiet_since = time.monotonic()
        if count != self._count:
            self._count, self._quiet_since = count, time.monotonic()
        over = time.monotonic() - self._quiet_since > self._QUIET_SECONDS
        return count >= self._wanted or over

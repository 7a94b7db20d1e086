"""What goes wrong with a Supabase project, on demand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from conv_realtime.local.project import LocalProject
from conv_realtime.testing.faults.fault import Fault
from conv_realtime.testing.faults.http import (
    Answer,
    Cut,
    Delay,
    Disconnect,
    Hang,
)
from conv_realtime.testing.faults.realtime import (
    Doubling,
    Lateness,
    Loss,
    Refusal,
    Silence,
)
from conv_realtime.testing.faults.tokens import Expiry
from conv_realtime.testing.faults.wiring import Wiring
from conv_realtime.testing.threads import InThread, LoopThread

__all__ = ["Fault", "Faults"]

_PORTAL = b"<!doctype html><title>Welcome</title><p>Sign in to use this network.</p>"


class Faults:
    """The faults of one project.

    Each method puts a fault in force at once and gives it as a context manager: it ends with the
    block, by `undo`, or with the project. Several in force add up. Every method may be called from
    any thread and in an async test: none waits for more than the server's thread, but for those
    that say so.

    HTTP faults take `path`, a pattern such as `/rest/v1/todos`; `method`, by default every HTTP
    method, `"WEBSOCKET"` for handshakes of Realtime, or `"*"` for both; and `times`, how many
    requests it strikes. Realtime faults take `topic`, a pattern of names without `realtime:`.
    """

    def __init__(self, thread: LoopThread, wiring: Wiring, project: LocalProject) -> None:
        self._thread = thread
        self._wiring = wiring
        self._project = project

    def answer(
        self,
        status: int,
        *,
        path: str = "*",
        method: str | None = None,
        times: int | None = None,
        retry_after: float | None = None,
        body: bytes | str | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Answers with `status`; the project never hears of the request.

        Args:
            status: such as 429, 503 or 504.
            path: a pattern of paths.
            method: an HTTP method; default: all of them.
            times: how many requests; default: all until it is undone.
            retry_after: seconds for a `Retry-After` header.
            body: text, bytes or an object to be sent as JSON; default: what a gateway says.
            headers: more of them.
        """
        shown = {"content-type": "application/json; charset=utf-8"}
        if retry_after is not None:
            shown["retry-after"] = f"{retry_after:g}"
        if body is None:
            body = {"message": HTTPStatus(status).phrase}
        if isinstance(body, Mapping):
            body = json.dumps(body)
        content = body.encode() if isinstance(body, str) else body
        shown |= {name.lower(): value for name, value in (headers or {}).items()}
        return self._wiring.http.add(Answer(status, content, shown, path, method, times))

    def captive_portal(
        self, *, path: str = "*", method: str | None = None, times: int | None = None
    ) -> Fault:
        """Answers 200 with a page of HTML, as the network of a hotel does."""
        headers = {"content-type": "text/html; charset=utf-8"}
        return self._wiring.http.add(Answer(200, _PORTAL, headers, path, method, times))

    def delay(
        self,
        seconds: float,
        *,
        path: str = "*",
        method: str | None = None,
        times: int | None = None,
    ) -> Fault:
        """Does requests at once and answers late."""
        return self._wiring.http.add(Delay(seconds, path, method, times))

    def hang(
        self,
        *,
        path: str = "*",
        method: str | None = None,
        times: int | None = None,
        done: bool = False,
    ) -> Fault:
        """Never answers; the connections break when the fault ends.

        Args:
            path: a pattern of paths.
            method: an HTTP method; default: all of them.
            times: how many requests; default: all until it is undone.
            done: whether the requests are done all the same.
        """
        return self._wiring.http.add(Hang(done, path, method, times))

    def disconnect(
        self,
        *,
        path: str = "*",
        method: str | None = None,
        times: int | None = None,
        done: bool = False,
    ) -> Fault:
        """Breaks the connection instead of answering.

        Args:
            path: a pattern of paths.
            method: an HTTP method; default: all of them.
            times: how many requests; default: all until it is undone.
            done: whether the requests are done all the same: their acknowledgement is lost.
        """
        return self._wiring.http.add(Disconnect(done, path, method, times))

    def cut(
        self,
        bytes_kept: int = 0,
        *,
        path: str = "*",
        method: str | None = None,
        times: int | None = None,
    ) -> Fault:
        """Does requests and breaks the connection after so many bytes of the answer's body.

        Raises:
            ValueError: `bytes_kept` is negative.
        """
        if bytes_kept < 0:
            raise ValueError("bytes_kept must be 0 or more")
        return self._wiring.http.add(Cut(bytes_kept, path, method, times))

    def offline(self) -> Fault:
        """Breaks every connection, and each new one as soon as it asks for something."""
        fault = self._wiring.http.add(Disconnect(False, "*", "*", None))
        self.drop_sockets()
        return fault

    def drop_sockets(self, topic: str | None = None) -> int:
        """Breaks the open sockets of Realtime without a close frame; gives how many.

        Args:
            topic: only those that have joined it, by its exact name; default: all.
        """
        realtime = self._project.realtime
        return self._thread.ask(lambda: realtime.drop_sockets(topic))

    def close_channels(
        self, topic: str | None = None, *, message: str = "Too many messages per second"
    ) -> int:
        """Ends channels with a `system` error and `phx_close`; gives how many.

        The sockets stay open and nobody joins again by itself: so does the hosted server to
        those who hear more than the project's rate allows.

        Args:
            topic: only those on it, by its exact name; default: all.
            message: of the error.
        """
        realtime = self._project.realtime
        return self._thread.ask(lambda: realtime.close_channels(topic, message))

    def lose_messages(self, *, every: int = 1, topic: str = "*", times: int | None = None) -> Fault:
        """Loses every n-th message for all who listen, the n-th from now on first.

        Raises:
            ValueError: `every` is less than 1.
        """
        if every < 1:
            raise ValueError("every must be 1 or more")
        return self._wiring.realtime.add(Loss(every, topic, times))

    def duplicate_messages(self, *, topic: str = "*", times: int | None = None) -> Fault:
        """Delivers messages twice."""
        return self._wiring.realtime.add(Doubling(topic, times))

    def delay_messages(
        self, seconds: float, *, topic: str = "*", times: int | None = None
    ) -> Fault:
        """Delivers messages late; those that follow the fault overtake them."""
        return self._wiring.realtime.add(Lateness(seconds, topic, times))

    def refuse_joins(
        self,
        *,
        topic: str = "*",
        times: int | None = None,
        code: str = "Unauthorized",
        message: str = "You do not have permissions to read from this Channel topic",
    ) -> Fault:
        """Refuses joins; `ChannelRateLimitReached` and `ConnectionRateLimitReached` are codes too.

        Channels that are joined stay so.
        """
        return self._wiring.realtime.add(Refusal(code, message, topic, times))

    def silence_after_restart(self) -> Fault:
        """After the next loss of the database its broadcasts stay away until somebody joins.

        So does the hosted server: sockets stay open, heartbeats are answered, nothing comes.
        """
        return self._wiring.realtime.add(Silence())

    def expire_tokens(self) -> Fault:
        """Lets every token expire that was issued or shown so far, but for the two keys.

        Channels that such a token has joined are closed. Tokens issued from now on hold.
        """
        project = self._project
        keys = (project.publishable_key, project.secret_key)
        expiry = self._wiring.expiries.add(Expiry(self._wiring.tokens.known(besides=keys)))
        self._thread.ask(project.realtime.recheck_tokens)
        return expiry

    def restart_postgres(self, *, kill: bool = False) -> None:
        """Restarts PostgreSQL, for all projects of the server; blocks until it takes connections.

        The Data API answers 503 meanwhile, and for some moments after.

        Args:
            kill: with `kill -9` instead of a fast shutdown.
        """
        with self.postgres_down(kill=kill):
            pass

    def postgres_down(self, *, kill: bool = False) -> InThread[None]:
        """Keeps PostgreSQL away for a block of `with` or `async with`; waits at both ends."""
        return InThread(self._thread, self._project.postgres.down(kill=kill))

    def undo(self) -> None:
        """Undoes all faults."""
        self._wiring.clear()

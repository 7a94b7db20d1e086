"""Supabase's auth server as far as signing in goes, on the address of a local project.

By its documented API (github.com/supabase/auth, openapi.yaml) and rules of sessions
(supabase.com/docs/guides/auth/sessions): a refresh token works once; used again later than the
reuse interval it ends its session, unless it is the parent of the newest, which is then given once
more. Tokens are signed with the project's secret, so the Data API, row level security and Realtime
take them for what they are.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from conv_realtime.testing import SupabaseLocal
from conv_realtime.testing.faults.http import HttpFault

CODE = "123456"


class Refused(Exception):
    """An answer that is an error, with its code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.answer = JSONResponse(
            {"code": code, "message": message}, status, {"x-supabase-api-version": "2024-01-01"}
        )
        super().__init__(code)


@dataclass
class Session:
    """One session: its refresh tokens, the newest last, and when each was used first."""

    user: str
    email: str
    tokens: list[str] = field(default_factory=list)
    used: dict[str, float] = field(default_factory=dict)
    ended: bool = False


class AuthServer(HttpFault):
    """Answers everything below `/auth/v1/` in the project's place.

    Attributes:
        lifetime: seconds that the next tokens are valid.
        reuse_interval: seconds within which a used refresh token still works.
        renewals: how often tokens were renewed.
        lost: how many of the next renewals are done without an answer.
        away: whether it answers 503.
    """

    answers = True

    def __init__(self, project: SupabaseLocal) -> None:
        super().__init__("/auth/v1/*", "POST", None)
        self.lifetime = 3600.0
        self.reuse_interval = 10.0
        self.renewals = 0
        self.lost = 0
        self.away = False
        self.sent: list[str] = []
        self.sessions: list[Session] = []
        self._project = project
        self._users: dict[str, tuple[str, str]] = {}

    def add_user(self, email: str, password: str, user: str | None = None) -> str:
        """Make a user; return the id."""
        made = user or str(uuid4())
        self._users[email] = (made, password)
        return made

    def sign_out_everywhere(self) -> None:
        """End every session, as its user does by `scope: "global"`, or whoever deletes the user."""
        for session in self.sessions:
            session.ended = True

    async def apply(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            answer = self._answer(request, await request.body())
        except Refused as refused:
            answer = refused.answer
        answer.headers["access-control-allow-origin"] = "*"
        await answer(scope, receive, send)

    def _answer(self, request: Request, body: bytes) -> Response:
        if self.away:
            raise Refused(503, "unexpected_failure", "Service Unavailable")
        if not request.headers.get("apikey"):
            raise Refused(401, "no_authorization", "No API key found in request")
        wanted = json.loads(body) if body else {}
        query = {name: values[0] for name, values in parse_qs(request.url.query).items()}
        match request.url.path.removeprefix("/auth/v1/"), query.get("grant_type"):
            case "token", "password":
                user, password = self._users.get(wanted["email"], ("", ""))
                if not user or not secrets.compare_digest(password, wanted["password"]):
                    raise Refused(400, "invalid_credentials", "Invalid login credentials")
                return self._given(self._begun(user, wanted["email"]))
            case "token", "refresh_token":
                return self._renewed(wanted["refresh_token"])
            case "otp", None:
                if wanted["email"] not in self._users and not wanted["create_user"]:
                    raise Refused(422, "otp_disabled", "Signups not allowed for otp")
                self.sent.append(wanted["email"])
                return JSONResponse({})
            case "verify", None:
                known = wanted["email"] in self.sent and wanted["type"] == "email"
                if not known or wanted["token"] != CODE:
                    raise Refused(403, "otp_expired", "Token has expired or is invalid")
                user, _ = self._users[wanted["email"]]
                return self._given(self._begun(user, wanted["email"]))
            case "logout", None:
                return self._signed_out(request.headers["authorization"].removeprefix("Bearer "))
        raise Refused(404, "not_found", "Not Found")

    def _begun(self, user: str, email: str) -> Session:
        session = Session(user, email)
        self.sessions.append(session)
        return session

    def _given(self, session: Session, *, again: bool = False) -> Response:
        if not again:
            session.tokens.append(secrets.token_urlsafe(9))
        number = str(self.sessions.index(session))
        token = self._project.token(session.user, expires_in=self.lifetime, session_number=number)
        return JSONResponse(
            {
                "access_token": token,
                "token_type": "bearer",
                "expires_in": int(self.lifetime),
                "expires_at": int(time.time() + self.lifetime),
                "refresh_token": session.tokens[-1],
                "user": {
                    "id": session.user,
                    "aud": "authenticated",
                    "role": "authenticated",
                    "email": session.email,
                    "app_metadata": {"provider": "email"},
                    "user_metadata": {},
                    "created_at": "2026-01-01T00:00:00Z",
                },
            }
        )

    def _renewed(self, token: str) -> Response:
        session = next((one for one in self.sessions if token in one.tokens), None)
        if session is None or session.ended:
            raise Refused(
                400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found"
            )
        used, now = session.used.get(token), time.monotonic()
        if used is None:
            session.used[token] = now
            self.renewals += 1
            answer = self._given(session)
        elif token == session.tokens[-2] or now - used < self.reuse_interval:
            answer = self._given(session, again=True)
        else:
            session.ended = True
            raise Refused(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
        if self.lost:
            self.lost -= 1
            raise Refused(504, "request_timeout", "the answer was lost")
        return answer

    def _signed_out(self, token: str) -> Response:
        import jwt

        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        session = self.sessions[int(claims["session_number"])]
        if session.ended:
            raise Refused(403, "session_not_found", "Session from session_id claim does not exist")
        session.ended = True
        return Response(status_code=204)


@contextmanager
def auth_server(project: SupabaseLocal) -> Iterator[AuthServer]:
    """Put an auth server in front of a project."""
    server = AuthServer(project)
    with project.faults._wiring.http.add(server):
        yield server

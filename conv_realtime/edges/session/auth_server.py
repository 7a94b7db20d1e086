"""Supabase's auth server: signing in and out, renewing. Every foreign error is mapped here.

Of sessions (supabase.com/docs/guides/auth/sessions): a refresh token works once. Used again after
ten seconds it ends the session, unless it is the parent of the newest one, which is then given
once more: so an answer that was lost, or a process that died before it kept the answer, ends
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
from pydantic import ValidationError

from conv_realtime.edges.session.kept import Kept
from conv_realtime.errors import SessionError

if TYPE_CHECKING:
    from supabase_auth import AsyncGoTrueClient
    from supabase_auth.types import AuthResponse

_AHEAD_SECONDS = 60.0

AGAIN = "sign in again: conv-realtime login"
_ADVICE = {
    "invalid_credentials": "the e-mail address or the password is wrong",
    "email_not_confirmed": "the address has not been confirmed yet: follow the link in the e-mail",
    "otp_expired": "the code is wrong, or older than it may be: ask for another one",
    "otp_disabled": "the project has no user of this address (dashboard, Authentication, Users)",
    "user_not_found": "the project has no such user (dashboard, Authentication, Users)",
    "user_banned": "the project has banned this user (dashboard, Authentication, Users)",
    "email_provider_disabled": "the project has switched e-mail sign-in off"
    " (dashboard, Authentication, Sign In / Providers)",
    "captcha_failed": "the project asks for a captcha, which only a browser can show:"
    " use a secret key instead",
    "over_email_send_rate_limit": "the project has sent too many e-mails: wait, or use a password",
    "over_request_rate_limit": "too many attempts: wait some minutes",
    "refresh_token_not_found": f"the session has ended; {AGAIN}",
    "refresh_token_already_used": f"the session was used elsewhere, too, and has ended: each"
    f" state directory needs a session of its own; {AGAIN}",
    "session_not_found": f"the session was signed out; {AGAIN}",
    "session_expired": f"the session has reached the age that the project allows; {AGAIN}",
}


class AuthServer:
    """The auth server of a project, asked through a client that the caller lends.

    Args:
        url: of the project.
        key: its publishable key.
        http: for the requests; it stays the caller's.
    """

    def __init__(self, url: str, key: str, http: httpx.AsyncClient) -> None:
        self._url = url
        self._key = key
        self._http = http

    async def by_password(self, email: str, password: str) -> Kept:
        """Sign in.

        Raises:
            SessionError: it is refused, or cannot be asked now.
        """
        with _mapped():
            wanted = {"email": email, "password": password}
            return self._kept(await self._client().sign_in_with_password(wanted))  # type: ignore[arg-type]

    async def send_code(self, email: str) -> None:
        """Have a code sent to a user that the project has.

        Raises:
            SessionError: as above.
        """
        with _mapped():
            await self._client().sign_in_with_otp(
                {"email": email, "options": {"should_create_user": False}}
            )

    async def by_code(self, email: str, code: str) -> Kept:
        """Sign in with a code that was sent.

        Raises:
            SessionError: as above.
        """
        with _mapped():
            wanted = {"email": email, "token": code, "type": "email"}
            return self._kept(await self._client().verify_otp(wanted))  # type: ignore[arg-type]

    async def renewed(self, session: Kept) -> Kept:
        """Return the session with new tokens; those that it had work no longer.

        Raises:
            SessionError: as above.
        """
        with _mapped():
            return self._kept(await self._client().refresh_session(session.refresh_token))

    async def sign_out(self, session: Kept) -> None:
        """End the session on the server, and no other of the user's; one that has ended is fine.

        Raises:
            SessionError: it cannot be asked now.
        """
        try:
            if time.time() >= session.renew_at:
                session = await self.renewed(session)
            with _mapped():
                await self._client().admin.sign_out(session.access_token, "local")
        except SessionError as error:
            if error.retryable:
                raise

    def _client(self) -> AsyncGoTrueClient:
        from supabase_auth import AsyncGoTrueClient

        return AsyncGoTrueClient(
            url=f"{self._url.rstrip('/')}/auth/v1",
            headers={"apikey": self._key, "Authorization": f"Bearer {self._key}"},
            auto_refresh_token=False,
            persist_session=False,
            http_client=self._http,
        )

    def _kept(self, answer: AuthResponse) -> Kept:
        session = answer.session
        if session is None:
            raise SessionError(
                "no_session", f"the server gave no session; {AGAIN}", retryable=False
            )
        now = time.time()
        return Kept(
            url=self._url,
            user_id=UUID(session.user.id),
            email=session.user.email,
            access_token=session.access_token,
            refresh_token=session.refresh_token,
            renew_at=now + session.expires_in - min(_AHEAD_SECONDS, session.expires_in / 4),
            expires_at=now + session.expires_in,
        )


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn what supabase-py raises into a `SessionError`."""
    from supabase_auth.errors import AuthApiError, AuthError, AuthRetryableError, AuthUnknownError

    try:
        yield
    except AuthRetryableError as error:
        raise SessionError(
            str(error.status or "away"), f"the auth server does not answer: {error.message}",
            retryable=True,
        ) from error  # fmt: skip
    except AuthApiError as error:
        code = str(error.code or error.status)
        passing = error.status == 429 or error.status >= 500
        said = (error.message or "no message").splitlines()[0][:200]
        advice = _ADVICE.get(code) or f"{said}; {AGAIN}"
        raise SessionError(code, advice, retryable=passing) from error
    except (AuthUnknownError, ValidationError, ValueError, httpx.InvalidURL) as error:
        reason = (
            "what answers is no auth server, which a local Supabase has not; "
            "see SUPABASE_URL and the network"
        )
        raise SessionError("unknown", reason, retryable=True) from error
    except AuthError as error:
        code = str(error.code or error.name)
        raise SessionError(code, f"{error.message}; {AGAIN}", retryable=False) from error

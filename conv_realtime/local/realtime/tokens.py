"""What a JWT lets its holder do at the Realtime server, and how a bad one is refused.

The same fault is told in three ways, as a real server does: as the body of a refused connection,
as the reason of a refused join, and as the message of a channel that is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conv_realtime.local.keys import TokenError, Verify

_NOT_A_JWT = "The token provided is not a valid JWT"
_BAD_SIGNATURE = "Failed to validate JWT signature"
_CLAIMS_MISSING = "Fields `role` and `exp` are required in JWT"


@dataclass(frozen=True, slots=True)
class Token:
    """A token that holds.

    Attributes:
        text: the JWT itself.
        claims: its payload, as policies read it through ``auth.jwt()``.
        role: the database role that it acts as.
        expires_at: seconds since 1970.
    """

    text: str
    claims: Mapping[str, Any]
    role: str
    expires_at: float


class TokenRefused(Exception):
    """A token does not hold.

    Attributes:
        at_connect: the ``error`` of the HTTP 401 that refuses a connection.
        at_join: the ``reason`` of the reply that refuses a join.
        in_channel: the message of the ``system`` frame before a channel closes.
    """

    def __init__(self, at_connect: str, at_join: str, in_channel: str) -> None:
        self.at_connect = at_connect
        self.at_join = at_join
        self.in_channel = in_channel
        super().__init__(at_connect)


def read_token(text: object, verify: Verify, now: float) -> Token:
    """Reads a token.

    Args:
        text: what the client gave; a JWT if all is well.
        verify: checks the signature.
        now: seconds since 1970.

    Raises:
        TokenRefused: it is malformed, forged, expired, or lacks ``role`` or ``exp``.
    """
    if not isinstance(text, str):
        raise _refused("MalformedJWT", _NOT_A_JWT)
    try:
        claims: Mapping[str, Any] = verify(text)
    except TokenError as error:
        claims = _claims_despite(error)
    role, expires_at = claims.get("role"), claims.get("exp")
    if not isinstance(role, str) or not isinstance(expires_at, (int, float)):
        raise _refused("InvalidJWTToken", _CLAIMS_MISSING)
    if expires_at <= now:
        raise expired(expires_at, now)
    return Token(text, claims, role, float(expires_at))


def _claims_despite(error: TokenError) -> Mapping[str, Any]:
    """Returns the claims of a token whose signature holds but whose times do not.

    The Data API grants clocks some skew and Realtime none, so the times are judged here again.
    """
    if error.claims is not None:
        return error.claims
    if error.details is not None:  # of PGRST301, only the wrong signature has details
        raise TokenRefused(
            _BAD_SIGNATURE, f"JwtSignatureError: {_BAD_SIGNATURE}", ":signature_error"
        ) from error
    raise _refused("MalformedJWT", _NOT_A_JWT) from error


def expired(expires_at: float, now: float) -> TokenRefused:
    """Returns the refusal of a token that ended ``now - expires_at`` seconds ago."""
    message = f"Token has expired {max(0, int(now - expires_at))} seconds ago"
    return TokenRefused("Token has expired", f"InvalidJWTToken: {message}", message)


def _refused(code: str, message: str) -> TokenRefused:
    return TokenRefused(message, f"{code}: {message}", message)

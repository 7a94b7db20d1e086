"""The local project's secrets: made once, kept in a file of mode 0600, the same ever after."""

from __future__ import annotations

import base64
import binascii
import functools
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
from jwt.types import Options

from conv_realtime import shared_files
from conv_realtime.errors import ConfigError, ConvRealtimeError

_ISSUER = "conv_realtime-local"
_KEY_TIMES = {"iat": 0, "exp": 4_102_444_800}  # the year 2100
"""Of the keys, which are kept for good: the clock may be wrong when they are made."""

_SKEW_SECONDS = 30.0
"""Clocks may differ by so much before a token counts as expired or not yet valid (PostgREST)."""

_MIN_SECRET_BYTES = 32
_KNOWN_SECRETS = (
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
)
"""What `supabase start` and the self-hosting examples sign with: their keys are on the web."""


class TokenError(ConvRealtimeError):
    """A JWT is refused; `code`, `message` and `details` are PostgREST's.

    `code` is `PGRST301` for a token that cannot be read or has another signature and `PGRST303`
    for one whose claims do not hold; only the latter has `claims`: its signature holds.
    """

    def __init__(
        self,
        code: str,
        message: str,
        details: str | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.details = details
        self.claims = claims
        super().__init__(message)


Verify = Callable[[str], dict[str, Any]]
"""Checks a token and gives its claims; raises `TokenError`. See `Keys.verify`."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of one local project; both keys are HS256 JWTs signed with `jwt_secret`."""

    owner_id: str
    jwt_secret: str
    publishable_key: str
    secret_key: str
    db_password: str

    def __repr__(self) -> str:
        """Names the owner only: a secret has no place in a log."""
        return f"Keys(owner_id={self.owner_id!r}, …)"

    def token(
        self,
        sub: UUID | str | None = None,
        role: str = "authenticated",
        expires_in: float = 3600.0,
        **claims: Any,
    ) -> str:
        """Gives a JWT for user `sub` (the owner if None) that expires in so many seconds."""
        return mint(self.jwt_secret, role, expires_in, sub=str(sub or self.owner_id), **claims)

    def verify(self, token: str) -> dict[str, Any]:
        """Gives the claims of `token`.

        Raises:
            TokenError: it is malformed, signed by another, expired or not yet valid.
        """
        return check_claims(signed_claims(token, self.jwt_secret))

    def check_secret(self) -> None:
        """Makes sure that `jwt_secret` is fit to sign for a network.

        Raises:
            ConfigError: it is one that everybody knows, or shorter than HS256 asks for.
        """
        if self.jwt_secret in _KNOWN_SECRETS or len(self.jwt_secret.encode()) < _MIN_SECRET_BYTES:
            raise ConfigError(
                "--allow-remote",
                "the project signs with a secret that is too short or that everybody knows, such "
                "as Supabase's demo secret; remove keys.json from STATE/supabase, and the next "
                "start makes new ones",
            )


def load_keys(path: Path, owner_id: UUID | str | None = None) -> Keys:
    """Reads the secrets at `path`, or makes them; `owner_id` replaces the kept owner.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        kept = json.loads(path.read_text())
        keys = Keys(**kept | ({"owner_id": str(owner_id)} if owner_id else {}))
    except FileNotFoundError:
        keys = make_keys(owner_id)
        kept = None
    except (ValueError, TypeError):
        raise ConfigError(
            "state_dir", f"{path} is damaged; restore or remove it (new keys are made then)"
        ) from None
    if asdict(keys) != kept:
        _save(path, keys)
    return keys


def mint(secret: str, role: str, expires_in: float = 3600.0, **claims: Any) -> str:
    """Gives a JWT of `role` that expires in so many seconds; a user's also names its audience."""
    now = int(time.time())
    audience = {"aud": "authenticated"} if role == "authenticated" else {}
    body = {"iss": _ISSUER, "role": role, "iat": now, "exp": now + int(expires_in)}
    return jwt.encode(body | audience | claims, secret, algorithm="HS256")


@functools.lru_cache(maxsize=512)
def signed_claims(token: str, secret: str) -> str:
    """Gives the signed claims as JSON text; the same few tokens come with every request.

    Raises:
        TokenError: `PGRST301`, the token cannot be read or has another signature.
    """
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenError("PGRST301", f"Expected 3 parts in JWT; got {len(parts)}")
    try:
        jwt.decode(token, secret, algorithms=["HS256"], options=_SIGNATURE_ONLY)
    except jwt.InvalidAlgorithmError:
        raise TokenError("PGRST301", "Wrong or unsupported encoding algorithm") from None
    except jwt.InvalidSignatureError:
        raise TokenError(
            "PGRST301",
            "No suitable key or wrong key type",
            "None of the keys was able to decode the JWT",
        ) from None
    except jwt.InvalidTokenError:
        raise TokenError("PGRST301", "JWT cryptographic operation failed") from None
    return _decoded(parts[1])


_SIGNATURE_ONLY: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def _decoded(part: str) -> str:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise TokenError("PGRST301", "JWT cryptographic operation failed") from None


def check_claims(text: str, now: float | None = None) -> dict[str, Any]:
    """Gives the claims in `text` if they hold at `now` (Unix seconds; default: the clock).

    Raises:
        TokenError: `PGRST303`, a time claim does not hold or is no number.
    """
    claims: dict[str, Any] = json.loads(text)
    fault = _fault_of(claims, time.time() if now is None else now)
    if fault is not None:
        raise TokenError("PGRST303", fault, claims=claims)
    return claims


def _fault_of(claims: dict[str, Any], now: float) -> str | None:
    times = {name: claims.get(name) for name in ("exp", "nbf", "iat")}
    for name, value in times.items():
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            return f"The JWT '{name}' claim must be a number"
    exp, nbf, iat = times.values()
    if exp is not None and now - _SKEW_SECONDS >= exp:
        return "JWT expired"
    if nbf is not None and now + _SKEW_SECONDS < nbf:
        return "JWT not yet valid"
    if iat is not None and now + _SKEW_SECONDS < iat:
        return "JWT issued at future"
    return None


def make_keys(owner_id: UUID | str | None = None, db_password: str | None = None) -> Keys:
    """Makes fresh secrets; owner and password may be given."""
    secret = secrets.token_urlsafe(48)
    return Keys(
        owner_id=str(owner_id or uuid4()),
        jwt_secret=secret,
        publishable_key=mint(secret, "anon", **_KEY_TIMES),
        secret_key=mint(secret, "service_role", **_KEY_TIMES),
        db_password=db_password or secrets.token_urlsafe(24),
    )


def _save(path: Path, keys: Keys) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shared_files.write_closed(path, json.dumps(asdict(keys)))

"""Who may connect: a browser page of this machine, or somebody with a token.

Local is a loopback peer that names a loopback host, whose page (if it is one) is of a loopback
origin, and that no proxy has forwarded. The three together keep out cross-site pages (Origin),
DNS rebinding (Host) and reverse proxies on the same machine (forwarding headers). Whoever is not
local needs a token, and a page also an origin that is allowed.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import jwt

from conv_realtime.core.addresses import is_loopback
from conv_realtime.errors import ConfigError
from conv_realtime.settings import Settings

_BEARER = "bearer."
_FORWARDING = re.compile(r"forwarded|via|x-forwarded.*|.*(client|real|connecting|user)-?ip")
"""What reverse proxies and tunnels add; `proxy_pass` of nginx turns even the host into ours."""

_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f.:]+\])(?::\d*)?", re.ASCII)
_ORIGIN = re.compile(r"(null|[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@*]*)/?")
_ASYMMETRIC = ["ES256", "RS256", "EdDSA"]
_TEST_PEER, _TEST_HOST = "testclient", "testserver"


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a request before it is let in. Header names are in lower case."""

    peer: str | None
    headers: Mapping[str, str]
    token: str | None = None
    subprotocols: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A caller who may come in: with all rows, or with those of `owner` until `expires_at`.

    `expires_at` is in seconds since the epoch.
    """

    owner: UUID | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A caller who may not; `status` is 401 for a token, 403 for an origin or host."""

    status: int
    reason: str


class Door:
    """Decides by settings who may connect.

    Raises:
        ConfigError: `supabase_jwks` is no key set, one of `allowed_origins` is none, or nobody
            could connect at all.
    """

    def __init__(self, settings: Settings) -> None:
        self._origins = frozenset(map(_read_origin, settings.allowed_origins))
        self._static = settings.ws_token.get_secret_value() if settings.ws_token else None
        secret = settings.supabase_jwt_secret
        self._secret = secret.get_secret_value() if secret else None
        self._keys = _read_keys(settings.supabase_jwks)
        self._trusts_loopback = settings.trust_loopback
        if not self._trusts_loopback and not self._checks_tokens:
            raise ConfigError(
                "trust_loopback", "is off, so somebody needs a token: set ws_token, for example"
            )

    def admit(self, caller: Caller) -> Admitted | Refused:
        """Return how `caller` is let in, or why not."""
        origin = caller.headers.get("origin")
        local = self.is_local(caller)
        if not _is_loopback_origin(origin) and (origin or "").lower() not in self._origins:
            return Refused(403, "this origin may not connect")
        token = _token_of(caller)
        if token is None or (local and not self._checks_tokens):
            if local and _is_loopback_origin(origin):
                return Admitted()
            return Refused(401, "a token is needed")
        return self._check(token)

    def is_local(self, caller: Caller) -> bool:
        """Return whether a caller is on this machine, if that is enough to be trusted."""
        return self._trusts_loopback and is_local(caller)

    @property
    def _checks_tokens(self) -> bool:
        return bool(self._static or self._secret or self._keys)

    def _check(self, token: str) -> Admitted | Refused:
        if self._static and hmac.compare_digest(token.encode(), self._static.encode()):
            return Admitted()
        try:
            claims = self._claims(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return Refused(401, "the token is not valid")
        try:
            owner = UUID(str(claims["sub"]))
        except (KeyError, ValueError):
            # A key of the project is no user: it would see everybody's rows.
            return Refused(401, "the token names no user")
        expires_at = claims.get("exp")
        return Admitted(owner, None if expires_at is None else float(expires_at))

    def _claims(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        # Made just now by a server whose clock is a little ahead of this one is no reason.
        options = {"verify_aud": False, "verify_iat": False}
        if header.get("alg") == "HS256":
            if not self._secret:
                raise jwt.InvalidKeyError("no secret for HS256")
            return jwt.decode(token, self._secret, ["HS256"], options=options)  # type: ignore[arg-type]
        key = self._keys.get(header.get("kid") or "")
        if key is None:
            raise jwt.InvalidKeyError("no such key")
        return jwt.decode(token, key, _ASYMMETRIC, options=options)  # type: ignore[arg-type]


def is_local(caller: Caller) -> bool:
    """Return whether a caller is on this machine and addressed us as such."""
    if any(_FORWARDING.fullmatch(name.replace("_", "-")) for name in caller.headers):
        return False
    host = _host_of(caller.headers.get("host", ""))
    if caller.peer == _TEST_PEER and host == _TEST_HOST:
        return True
    here = caller.peer == _TEST_PEER or is_loopback(caller.peer or "")
    return here and is_loopback(host or "")


def _token_of(caller: Caller) -> str | None:
    scheme, _, credentials = caller.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    for name in caller.subprotocols:
        if name.startswith(_BEARER):
            return name[len(_BEARER) :]
    return caller.token or None


def _host_of(header: str) -> str | None:
    if not _HOST.fullmatch(header):  # a user name or a path is no part of a host
        return None
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def _is_loopback_origin(origin: str | None) -> bool:
    if origin is None:
        return True
    scheme, _, host = origin.partition("://")
    return scheme.lower() in ("http", "https") and is_loopback(_host_of(host) or "")


def _read_origin(named: str) -> str:
    origin = _ORIGIN.fullmatch(named)
    if origin is None:  # a host alone, or "*", which no browser says of a page
        raise ConfigError("allowed_origins", f"{named} is no origin, such as https://app.example")
    return origin[1].lower()


def _read_keys(text: str | None) -> Mapping[str, jwt.PyJWK]:
    if not text:
        return {}
    try:
        keys = jwt.PyJWKSet.from_dict(json.loads(text)).keys
    except (ValueError, TypeError, AttributeError, jwt.PyJWTError):
        raise ConfigError("supabase_jwks", "is not a JSON Web Key Set") from None
    return {key.key_id or "": key for key in keys if key.key_type != "oct"}

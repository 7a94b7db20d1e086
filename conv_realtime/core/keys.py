"""What kind of key somebody has set, and what a URL says, by their form alone; nothing is asked.

Supabase has two generations: `sb_publishable_…` and `sb_secret_…`, and before them JWTs of the
roles `anon` and `service_role`, which also name their project (`ref`). Locally, keys are JWTs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

Kind = Literal["secret", "publishable", "user", "unknown"]

_HOSTED = re.compile(r"([a-z0-9]{20})\.supabase\.(?:co|in|red)")
_ROLES: dict[Any, Kind] = {
    "service_role": "secret",
    "supabase_admin": "secret",
    "anon": "publishable",
    "authenticated": "user",
}
_STRANGERS = {
    "sbp_": "a personal access token of the Supabase CLI",
    "postgres": "the address of a database",
    "http": "an address",
    "eyJ": "a damaged JWT",
}


def without_secrets(url: str) -> str:
    """Return a URL as it may be told: without user, password and what its query says."""
    place, asked, _ = url.partition("?")
    scheme, sign, rest = place.partition("://") if "://" in place else ("", "", place)
    host, slash, path = rest.partition("/")
    return f"{scheme}{sign}{host.rpartition('@')[2]}{slash}{path}{'?…' if asked else ''}"


@dataclass(frozen=True, slots=True)
class Key:
    """What the form of a key says.

    Attributes:
        kind: what it may do.
        words: the same for a person.
        project: the hosted project that it names, None where it names none.
        user: whose token it is.
        expires: when it stops working, None where it does not say.
    """

    kind: Kind
    words: str
    project: str | None = None
    user: UUID | None = None
    expires: datetime | None = None


def read_key(key: str) -> Key:
    """Return what `key` is."""
    if key.startswith("sb_secret_"):
        return Key("secret", "a secret key")
    if key.startswith("sb_publishable_"):
        return Key("publishable", "a publishable key")
    import jwt  # here, for it brings nine megabytes of cryptography

    try:
        claims = jwt.decode(key, options={"verify_signature": False})
        kind = _ROLES.get(claims.get("role"), "unknown")
        expires = claims.get("exp")
        return Key(
            kind,
            f"a JWT of the role {str(claims.get('role'))[:40]}",
            project=claims.get("ref"),
            user=UUID(claims["sub"]) if kind == "user" else None,
            expires=datetime.fromtimestamp(expires, UTC) if expires else None,
        )
    except (jwt.InvalidTokenError, ValueError, KeyError, TypeError, OverflowError, OSError):
        words = (words for start, words in _STRANGERS.items() if key.startswith(start))
        return Key("unknown", next(words, "no key of Supabase"))


def project_of(url: str) -> str | None:
    """Return the hosted project that a URL names, None for any other server."""
    try:
        found = _HOSTED.fullmatch(urlsplit(url).hostname or "")
    except ValueError:  # half an IPv6 address
        return None
    return found[1] if found else None

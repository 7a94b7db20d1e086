"""Who asks: the role and the claims of a request, and how PostgreSQL is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request

from conv_realtime.core.addresses import is_loopback
from conv_realtime.local.keys import Verify
from conv_realtime.local.rest.errors import ApiError

_ANONYMOUS = "anon"
_SEARCH_PATH = '"public", "extensions"'


@dataclass(frozen=True, slots=True)
class Caller:
    """A role to act as and the claims that policies read."""

    role: str
    claims: dict[str, Any]

    @property
    def anonymous(self) -> bool:
        """Whether nobody has signed in."""
        return self.role == _ANONYMOUS

    def settings(self, request: Request, path: str) -> list[tuple[str, str]]:
        """Gives the settings of the request's transaction, as Supabase's functions read them."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.raw
        }
        return [
            ("role", self.role),
            ("search_path", _SEARCH_PATH),
            ("request.jwt.claims", orjson.dumps(self.claims).decode()),
            ("request.headers", orjson.dumps(headers).decode()),
            ("request.method", request.method),
            ("request.path", path),
        ]


def identify(request: Request, verify: Verify) -> Caller:
    """Reads the bearer token, else the `apikey` header; without either the caller is anonymous.

    Any page in the browser of this machine can ask, and where another address than loopback was
    opened any machine, so both must show that they have a key.

    Raises:
        ApiError: `PGRST302`, a page or another machine has no key.
        TokenError: there is a token, and it is not accepted.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.headers.get("apikey", "") or request.query_params.get("apikey", "")
    if not token:
        if _is_page(request) or _is_elsewhere(request):
            raise ApiError(401, "PGRST302", "No API key found in request")
        return Caller(_ANONYMOUS, {"role": _ANONYMOUS})
    claims = verify(token.strip())
    role = claims.get("role")
    if not isinstance(role, str) or not role:
        role = _ANONYMOUS
    return Caller(role, claims | {"role": role})


def _is_page(request: Request) -> bool:
    """Whether a script of a page asks; `none` is what somebody typed into the address bar."""
    return "origin" in request.headers or request.headers.get("sec-fetch-site", "none") != "none"


def _is_elsewhere(request: Request) -> bool:
    return request.client is not None and not is_loopback(request.client.host)

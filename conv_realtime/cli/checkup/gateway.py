"""A Supabase project's gateway, asked over plain HTTP.

The status, the headers and the text of an answer matter to `doctor`, which supabase-py does not
pass on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from conv_realtime.core.keys import Key


@dataclass(frozen=True, slots=True)
class Access:
    """How a project is reached.

    Attributes:
        url: of the project.
        key: opens the gateway.
        token: says who asks; the key itself where nobody is signed in.
        read: what kind of key it is.
        variable: where it comes from.
        user: who asks, None for a secret key.
        owner: whose rows are written.
    """

    url: str
    key: str
    token: str
    read: Key
    variable: str
    user: UUID | None
    owner: UUID | None

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"apikey": self.key, "authorization": f"Bearer {self.token}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, its JSON (None if it is none), and what an error says."""

    status: int
    body: Any
    headers: httpx.Headers

    @property
    def code(self) -> str:
        """PostgREST's or PostgreSQL's code, empty without one."""
        code = self.body.get("code") if isinstance(self.body, dict) else None
        return code if isinstance(code, str) else ""

    @property
    def message(self) -> str:
        """The first line of what an error says, empty without one."""
        body = self.body if isinstance(self.body, dict) else {}
        said = body.get("message") or body.get("msg") or body.get("error") or ""
        return (str(said).splitlines() or [""])[0][:200]

    @property
    def of_a_project(self) -> bool:
        """Whether it is one that only a Supabase gives."""
        if self.status == 200:
            return self.body is None or (isinstance(self.body, str) and self.body.isdigit())
        told = any(name.startswith("sb-") for name in self.headers)
        return told or bool(self.code) or "api key" in self.message.lower()


class Gateway:
    """Asks a project, with what opens it."""

    def __init__(self, http: httpx.AsyncClient, access: Access) -> None:
        self._http = http
        self.access = access

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Return an answer of whatever kind.

        Raises:
            httpx.HTTPError, httpx.InvalidURL: there is none.
        """
        sent = self.access.headers | {name.replace("_", "-"): v for name, v in headers.items()}
        url = self.access.url.rstrip("/") + path
        answer = await self._http.request(method, url, json=body, headers=sent)
        try:
            return Answer(answer.status_code, answer.json(), answer.headers)
        except ValueError:
            return Answer(answer.status_code, answer.text[:200] or {}, answer.headers)

    async def asked(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> Answer | None:
        """Return an answer, None where there is none."""
        try:
            return await self.ask(method, path, body, **headers)
        except httpx.HTTPError:
            return None


def why(answer: Answer | None) -> str:
    """Return why something was refused, in a few words."""
    if answer is None:
        return "no answer"
    return f"{answer.code or answer.status} {answer.message}".strip()

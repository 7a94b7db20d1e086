"""The Supabase project: is it one, does it know us, has it our schema, may we write?

Everything is asked over plain HTTP: here the status, the headers and the text of an answer
matter, which supabase-py does not pass on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx

from conv_realtime.cli.checkup import Check, failed, ok, skipped, warning
from conv_realtime.core.keys import Key, project_of
from conv_realtime.sql import latest_version

_FORGIVEN = timedelta(seconds=30)  # by PostgREST, of clocks that differ
_APPLY = (
    "run: conv-realtime migrations supabase/migrations && supabase db push"
    " (or paste the files into the dashboard's SQL Editor, in the order of their names)"
)
_API_KEYS = "dashboard, Project Settings, API Keys"
_TAKE_SECRET = f"set SUPABASE_SECRET_KEY to a secret key ({_API_KEYS})"
_DATA_API = "dashboard, Project Settings, Data API"


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


class Project:
    """Asks a project one thing after another; what fails leaves out what builds on it."""

    def __init__(self, http: httpx.AsyncClient, access: Access) -> None:
        self._http = http
        self._access = access

    async def checks(self) -> AsyncIterator[Check]:
        """Yield a check of everything that HTTP tells."""
        began = datetime.now(UTC)
        first = await self._first_answer()
        wrong_key = self._key_by_form()
        if isinstance(first, Check):
            yield first
            yield skipped("clock", "no project was reached")
            yield wrong_key or skipped("key", "no project was reached")
            for name in ("owner", "schema", "rights"):
                yield skipped(name, "no project was reached")
            return
        yield ok("url", f"{self._access.url} is a Supabase")
        yield _clock(first, began, datetime.now(UTC))
        key = wrong_key or self._key(first)
        yield key
        if key.state == "failed":
            for name in ("owner", "schema", "rights"):
                yield skipped(name, "the key does not do")
            return
        yield await self._owner()
        schema = _schema(first)
        yield schema
        if schema.state == "failed":
            yield skipped("rights", "the schema is not there")
        else:
            yield await self._rights()

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Return an answer of whatever kind.

        Raises:
            httpx.HTTPError, httpx.InvalidURL: there is none.
        """
        sent = self._access.headers | {name.replace("_", "-"): v for name, v in headers.items()}
        url = self._access.url.rstrip("/") + path
        answer = await self._http.request(method, url, json=body, headers=sent)
        try:
            return Answer(answer.status_code, answer.json(), answer.headers)
        except ValueError:
            return Answer(answer.status_code, answer.text[:200] or {}, answer.headers)

    async def _first_answer(self) -> Answer | Check:
        """Return the answer to the first question, or why there is none from a project."""
        url = self._access.url
        if (wrong := _form_of(url)) is not None:
            return wrong
        try:
            answer = await self.ask("POST", "/rest/v1/rpc/schema_version", {})
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return _unreached(url, error)
        if 300 <= answer.status < 400:
            place = answer.headers.get("location", "")[:200]
            return failed("url", f"{url} leads elsewhere: {place}", "set SUPABASE_URL to that")
        if answer.status == 540:
            return failed(
                "url",
                f"{url} is a project that is paused",
                "restore it in its dashboard; on the Free plan a week without use pauses it",
            )
        if answer.status >= 500 and answer.code[:2] != "PG":
            return failed(
                "url",
                f"{url} answers {answer.status} {answer.message}".rstrip(),
                "wait some minutes, then see the project's health in its dashboard"
                " and https://status.supabase.com",
            )
        if answer.code.startswith("PGRST00"):
            return failed(
                "url",
                f"the project's database is away ({answer.code} {answer.message})",
                "wait some minutes; if it stays so, restart the project"
                " (dashboard, Project Settings, General)",
            )
        if not answer.of_a_project:
            return failed(
                "url",
                f"what answers at {url} is no Supabase (HTTP {answer.status})",
                f"copy the project's URL ({_DATA_API}); a network that wants a sign-in"
                " answers so, too",
            )
        return answer

    def _key_by_form(self) -> Check | None:
        """Return what is wrong with the key by its looks, None if nothing."""
        access = self._access
        read, named = access.read, access.variable
        project = project_of(access.url)
        if read.project and project and read.project != project:
            return failed(
                "key",
                f"{named} is of project {read.project}, SUPABASE_URL of {project}",
                f"take both from the same project ({_API_KEYS})",
            )
        if read.kind == "unknown":
            return failed("key", f"{named} holds {read.words}", _TAKE_SECRET)
        if read.expires is not None and read.expires < datetime.now(UTC) - _FORGIVEN:
            again = "sign in again" if read.kind == "user" else _TAKE_SECRET
            return failed("key", f"{named} expired on {read.expires:%Y-%m-%d %H:%M} UTC", again)
        return None

    def _key(self, first: Answer) -> Check:
        """Judge the key by how it was received."""
        access = self._access
        read, named = access.read, access.variable
        if first.status == 401 and first.code != "42501":
            why = f"{first.code} {first.message}".strip()
            return failed(
                "key",
                f"the project refuses {named}, {read.words} ({why})",
                f"{_TAKE_SECRET}: this one is another project's, was revoked, or lost a character",
            )
        if read.kind == "publishable" and access.user is None:
            return failed(
                "key",
                f"{named} is {read.words}: by itself it may read and write nothing",
                f"sign in with it (conv-realtime login), or {_TAKE_SECRET}",
            )
        whose = f" of user {access.user}" if access.user else ""
        return ok("key", f"{named} is {read.words}{whose}", kind=read.kind)

    async def _owner(self) -> Check:
        """Judge whose rows are written."""
        access = self._access
        users = "dashboard, Authentication, Users"
        if access.owner is None:
            return failed(
                "owner",
                "CONV_REALTIME_OWNER_ID is not set: nobody would own the rows",
                f"set it to the id of a user of the project ({users})",
            )
        if access.user is not None and access.user != access.owner:
            return failed(
                "owner",
                f"CONV_REALTIME_OWNER_ID is {access.owner}, the key of user {access.user},"
                " who may only write rows of their own",
                "unset CONV_REALTIME_OWNER_ID, or use a secret key",
            )
        if access.user is not None:
            return ok("owner", f"{access.owner}, who is signed in")
        answer = await self._asked("GET", f"/auth/v1/admin/users/{access.owner}")
        said = answer.body if answer and isinstance(answer.body, dict) else {}
        if answer and answer.status == 404 and "user_not_found" in said.values():
            return failed(
                "owner",
                f"the project has no user {access.owner}: nobody could sign in and see the rows",
                f"set CONV_REALTIME_OWNER_ID to the id of one that it has ({users})",
            )
        known = bool(answer and answer.status == 200)
        return ok("owner", f"{access.owner}{', a user of the project' if known else ''}")

    async def _rights(self) -> Check:
        """Try to read, and to write what the tables refuse once they have let us in.

        PostgreSQL looks at grants and policies before it looks at a table's own checks: a row
        that fails in a check would have been let in, and nothing of it is left.
        """
        user = str(self._access.owner or uuid4())
        base = {"id": str(uuid4()), "owner_id": user}
        probes = {
            "projects": {**base, "machine": "doctor", "path": "", "name": "", "metadata": []},
            "conversations": {
                **base, "source": "doctor", "machine": "doctor", "session_id": "", "revision": -1
            },
            "messages": {
                **base, "conversation_id": base["id"], "seq": 0, "revision": -1, "role": "user"
            },
        }  # fmt: skip
        refused = []
        for table, row in probes.items():
            read = await self._asked("GET", f"/rest/v1/{table}?select=id&limit=1")
            path = f"/rest/v1/{table}?on_conflict=id,owner_id"
            prefer = "resolution=merge-duplicates,return=minimal"
            write = await self._asked("POST", path, [row], prefer=prefer)
            if write is not None and write.status in (200, 201):
                where = f"?id=eq.{base['id']}&owner_id=eq.{user}"
                await self._asked("DELETE", f"/rest/v1/{table}{where}")
                refused.append(f"{table}: takes what it has to refuse, its checks are gone")
            refused += [f"read {table}: {_why(read)}"] if read is None or read.status != 200 else []
            if write is None or write.code not in ("23514", ""):
                refused.append(f"write {table}: {_why(write)}")
        calls: dict[str, Any] = {"changes_since": {}, "conversation_digests": {"ids": []}}
        for function, arguments in calls.items():
            call = await self._asked("POST", f"/rest/v1/rpc/{function}", arguments)
            if call is None or call.status != 200:
                refused.append(f"call {function}: {_why(call)}")
        if refused:
            return failed(
                "rights",
                "; ".join(refused),
                "compare the schema with the migrations"
                " (conv-realtime migrations --check --db-url …), and look for grants that were"
                " revoked and policies that were added (dashboard, Authentication, Policies)",
            )
        return ok("rights", "reads and writes all three tables (tried without writing)")

    async def _asked(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> Answer | None:
        try:
            return await self.ask(method, path, body, **headers)
        except httpx.HTTPError:
            return None


def _why(answer: Answer | None) -> str:
    if answer is None:
        return "no answer"
    return f"{answer.code or answer.status} {answer.message}".strip()


def _form_of(url: str) -> Check | None:
    """Return what is wrong with an URL by its looks, None if nothing."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        what = "the address of a database" if parts.scheme.startswith("postgres") else "no URL"
        advice = f"set it to the project's, https://….supabase.co ({_DATA_API})"
        return failed("url", f"SUPABASE_URL is {what}", advice)
    words = parts.path.strip("/").split("/")
    if parts.hostname in ("supabase.com", "app.supabase.com") and "project" in words:
        ref = words[words.index("project") + 1 :][:1]
        right = f"https://{ref[0]}.supabase.co" if ref else "https://….supabase.co"
        return failed("url", "SUPABASE_URL is the dashboard's address", f"set it to {right}")
    if words[0] in ("rest", "auth", "realtime", "storage"):
        right = f"{parts.scheme}://{parts.netloc}"
        return failed("url", f"SUPABASE_URL has a path, {parts.path}", f"set it to {right}")
    return None


def _unreached(url: str, error: Exception) -> Check:
    """Return why nothing answers."""
    told = str(error) or type(error).__name__
    host = urlsplit(url).hostname
    if isinstance(error, httpx.TimeoutException):
        advice = "see whether this machine has a network, and whether a firewall is in between"
    elif any(sign in told for sign in ("Name or service", "nodename", "No address", "getaddrinfo")):
        advice = (
            f"there is no host {host}: copy the project's URL ({_DATA_API}); a project that was"
            " deleted has none, and without a network no name is found"
        )
    elif "CERTIFICATE" in told.upper() or "SSL" in told.upper():
        advice = (
            "set the clock, or give the certificate of the proxy in between:"
            " SSL_CERT_FILE=/path/to/ca.pem"
        )
    else:
        advice = (
            f"see whether {host} is right ({_DATA_API}), and whether something listens there:"
            " a local one is started by `conv-realtime local`"
        )
    return failed("url", f"{url} cannot be reached: {told[:200]}", advice)


def _clock(answer: Answer, began: datetime, ended: datetime) -> Check:
    """Compare this clock with the server's, which tells whole seconds."""
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError, TypeError):
        return warning("clock", "the server does not tell its time")
    ahead = (began + (ended - began) / 2 - theirs).total_seconds() - 0.5
    says = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
    if abs(ahead) <= _FORGIVEN.total_seconds():
        return ok("clock", says, ahead_seconds=round(ahead, 1))
    return failed(
        "clock",
        says,
        "set this clock by the network (sudo timedatectl set-ntp true): tokens count as expired"
        " or not yet valid, and what is new as history",
        ahead_seconds=round(ahead, 1),
    )


def _schema(first: Answer) -> Check:
    """Judge what the first question, for the schema's version, was answered."""
    wanted = latest_version()
    if first.code in ("PGRST202", "PGRST205", "42883") or first.body is None:
        return failed(
            "schema",
            "this project does not have it",
            f"{_APPLY}; if that is done, tell the Data API: notify pgrst, 'reload schema'",
        )
    if first.code == "PGRST106":
        return failed(
            "schema", "the Data API does not show the schema public", f"expose it ({_DATA_API})"
        )
    if first.status != 200:
        return failed("schema", f"cannot be asked for: {_why(first)}", _APPLY)
    if first.body < wanted:
        return failed("schema", f"is of {first.body}, older than {wanted}", _APPLY)
    if first.body > wanted:
        upgrade = "pip install --upgrade conv_realtime"
        return warning("schema", f"is of {first.body}, newer than this program", f"run: {upgrade}")
    return ok("schema", f"is of {first.body}", version=first.body)

"""The Supabase project: does it know us, has it our schema, may we write?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from conv_realtime.cli.checkup import Check, failed, ok, skipped, warning
from conv_realtime.cli.checkup.address import DATA_API, FORGIVEN, clock, first_answer
from conv_realtime.cli.checkup.gateway import Answer, Gateway, why
from conv_realtime.core.keys import project_of, without_secrets
from conv_realtime.sql import latest_version

_APPLY = (
    "run: conv-realtime migrations supabase/migrations && supabase db push"
    " (or paste the files into the dashboard's SQL Editor, in the order of their names)"
)
_API_KEYS = "dashboard, Project Settings, API Keys"
_TAKE_SECRET = f"set SUPABASE_SECRET_KEY to a secret key ({_API_KEYS})"


class Project:
    """Asks a project one thing after another; what fails leaves out what builds on it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._access = gateway.access

    async def checks(self) -> AsyncIterator[Check]:
        """Yield a check of everything that HTTP tells."""
        began = datetime.now(UTC)
        first = await first_answer(self._gateway)
        if isinstance(first, Check):
            yield first
            yield skipped("clock", "no project was reached")
            yield self._key_by_form(began) or skipped("key", "no project was reached")
            for name in ("owner", "schema", "rights"):
                yield skipped(name, "no project was reached")
            return
        yield ok("url", f"{without_secrets(self._access.url)} is a Supabase")
        time = clock(first, began, datetime.now(UTC))
        yield time
        ahead = timedelta(seconds=time.facts.get("ahead_seconds", 0))
        key = self._key_by_form(began - ahead) or self._key(first)
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

    def _key_by_form(self, now: datetime) -> Check | None:
        """Return what is wrong with the key by its looks, None if nothing.

        `now` is best the server's: a clock that is wrong here makes no key expire.
        """
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
        if read.expires is not None and read.expires < now - FORGIVEN:
            again = "sign in again" if read.kind == "user" else _TAKE_SECRET
            return failed("key", f"{named} expired on {read.expires:%Y-%m-%d %H:%M} UTC", again)
        return None

    def _key(self, first: Answer) -> Check:
        """Judge the key by how it was received."""
        access = self._access
        read, named = access.read, access.variable
        if first.status == 401 and first.code != "42501":
            said = f"{first.code} {first.message}".strip()
            return failed(
                "key",
                f"the project refuses {named}, {read.words} ({said})",
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
        answer = await self._gateway.asked("GET", f"/auth/v1/admin/users/{access.owner}")
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
            read = await self._gateway.asked("GET", f"/rest/v1/{table}?select=id&limit=1")
            path = f"/rest/v1/{table}?on_conflict=id,owner_id"
            prefer = "resolution=merge-duplicates,return=minimal"
            write = await self._gateway.asked("POST", path, [row], prefer=prefer)
            if write is not None and write.status in (200, 201):
                where = f"?id=eq.{base['id']}&owner_id=eq.{user}"
                await self._gateway.asked("DELETE", f"/rest/v1/{table}{where}")
                refused.append(f"{table}: takes what it has to refuse, its checks are gone")
            elif write is None or write.code != "23514":
                refused.append(f"write {table}: {why(write)}")
            if read is None or read.status != 200:
                refused.append(f"read {table}: {why(read)}")
        calls: dict[str, Any] = {"changes_since": {}, "conversation_digests": {"ids": []}}
        for function, arguments in calls.items():
            call = await self._gateway.asked("POST", f"/rest/v1/rpc/{function}", arguments)
            if call is None or call.status != 200:
                refused.append(f"call {function}: {why(call)}")
        if refused:
            return failed(
                "rights",
                "; ".join(refused),
                "compare the schema with the migrations"
                " (conv-realtime migrations --check --db-url …), and look for grants that were"
                " revoked and policies that were added (dashboard, Authentication, Policies)",
            )
        return ok("rights", "reads and writes all three tables (tried without writing)")


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
            "schema", "the Data API does not show the schema public", f"expose it ({DATA_API})"
        )
    if first.status != 200:
        return failed("schema", f"cannot be asked for: {why(first)}", _APPLY)
    if first.body < wanted:
        return failed("schema", f"is of {first.body}, older than {wanted}", _APPLY)
    if first.body > wanted:
        upgrade = "pip install --upgrade conv_realtime"
        return warning("schema", f"is of {first.body}, newer than this program", f"run: {upgrade}")
    return ok("schema", f"is of {first.body}", version=first.body)

"""Sends the Data API what a real PostgREST 14 was sent, and compares the answers.

    python -m tests.local.rest_replay [FOLDER]     (default: ../shared/captures/postgrest-14)

prints a line per captured request: `equal`, `recorded` with the reason for the difference, `unsent`
with the reason for that, or `DIFFERENT` with both answers. The exit code is 1 if anything was
different, or was recorded as different and is not. The reasons stand in the README of
`conv_realtime/local` as well, and a test holds the two together.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
from starlette.applications import Starlette

from conv_realtime.local import provision
from conv_realtime.local.keys import Keys, TokenError, load_keys, signed_claims
from conv_realtime.local.postgres.server import Postgres
from conv_realtime.local.rest.service import DataApi

CAPTURES = Path(__file__).parents[3] / "shared" / "captures" / "postgrest-14"
FILES = ("client-v14", "raw-v14", "extra-v14", "extra2-v14", "extra3-v14")
SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
TAKEN_AT = 1795391288
"""When the captures were made: tokens for later times are minted anew."""

UNSENT = {"upsert 1500 rows shuffled order": "most of the request is cut in the capture"}
UNORDERED = "rows come in another order where none was asked for"
AT_ONCE = "tables and columns made later are served at once, without a word to the server"
NUMBERS = "a body without `columns` may nest 1,024 levels, and its numbers must fit a double"
WORDING = "PostgreSQL's own words differ between its versions"
RECORDED = {
    None: "the captured database held rows of an earlier run",
    "embed": UNORDERED,
    "GET root openapi": "the root lists the tables and does not describe them",
    "lowercase bearer": UNORDERED,
    "long in filter 300 ids": UNORDERED,
    "long in filter 1200 ids": UNORDERED,
    "ts epoch int": WORDING,
    "ts epoch string": WORDING,
    "ts out of range": WORDING,
    "jsonb big exponent raw": NUMBERS,
    "jsonb nest 5000": NUMBERS,
    "jsonb nest 100000": NUMBERS,
    "new column before reload": AT_ONCE,
    "new column via select before reload": UNORDERED,
}
VARYING = (UNORDERED, WORDING)
"""Reasons for which an answer may be equal all the same."""

HEADERS = (
    "content-range",
    "content-type",
    "content-profile",
    "content-location",
    "location",
    "preference-applied",
    "proxy-status",
    "retry-after",
    "www-authenticate",
)
OUTAGE = re.compile(r'"(57P01|PGRST001|PGRST002)".*"message":"[^"]*"|=(57P01|PGRST00[12])')
"""With which of them an outage is answered depends on the moment."""

_AROUND = {
    "statement timeout (anon 3s)": (
        "alter role anon set statement_timeout = '200ms'",
        "alter role anon set statement_timeout = '3s'",
    ),
    "timeout user": (
        "alter role authenticated set statement_timeout = '200ms'",
        "alter role authenticated set statement_timeout = '8s'",
    ),
    "new column before reload": ("alter table messages add column extra1 text", ""),
    "dropped column before reload": ("alter table messages drop column extra1", ""),
}
"""What was done to the captured database before and after; long timeouts are shortened here."""

Pair = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of one captured request; `difference` is None where the answers are equal."""

    file: str
    label: str | None
    difference: str | None = None

    @property
    def word(self) -> str:
        """`equal`, `recorded`, `unsent` or `DIFFERENT`."""
        if self.label in UNSENT:
            return "unsent"
        if self.difference is None:
            return "equal"
        return "recorded" if self.label in RECORDED else "DIFFERENT"

    def __str__(self) -> str:
        """One line for people."""
        why = {"equal": "", "DIFFERENT": self.difference or ""}
        shown = why[self.word] if self.word in why else (UNSENT | RECORDED)[self.label]
        line = f"{self.word:<9}  {self.file:<10}  {self.label or '(no label)'}"
        return f"{line}: {shown}" if shown else line


class Stage:
    """A Data API on the captured schema, to which happens what happened to the captured one."""

    def __init__(self, folder: Path, client: httpx.AsyncClient, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._postgres = Postgres(folder, throwaway=True)
        self._running: AsyncExitStack | None = None

    async def start(self) -> None:
        """Starts PostgreSQL, if it does not run."""
        if self._running is None:
            self._running = AsyncExitStack()
            await self._running.enter_async_context(self._postgres)

    async def stop(self) -> None:
        """Stops PostgreSQL, if it runs."""
        if self._running is not None:
            await self._running.aclose()
            self._running = None

    def dsn(self, user: str) -> str:
        """Gives a connection as `user`."""
        return self._postgres.dsn(user=user)

    async def replay(self, file: str, pair: Pair) -> Outcome:
        """Sends one captured request, after what had happened before it."""
        label = pair["label"]
        if label in UNSENT:
            return Outcome(file, label)
        await (self.stop() if pair["status"] == 503 else self.start())
        async with AsyncExitStack() as around:
            if label in _AROUND:
                await around.enter_async_context(self._around(*_AROUND[label]))
            if "row lock" in (label or ""):
                await around.enter_async_context(self._locked(pair))
            return Outcome(file, label, await self._difference(pair))

    async def _difference(self, pair: Pair) -> str | None:
        dropped = ("host", "content-length", "apikey", "accept-encoding", "connection")
        headers = [
            (name, renewed(value, self._keys) if name == "Authorization" else value)
            for name, value in pair["request_headers"]
            if name.lower() not in dropped
        ]
        while True:
            answer = await self._client.request(
                pair["method"],
                f"http://localhost/rest/v1{pair['url']}",
                headers=headers,
                # Who finds the database away does not read so far.
                content=b"{}" if pair["status"] == 503 else sent(pair["request_body"]),
            )
            # The captured server had got over its outage, so this one has to get over it, too.
            if answer.status_code != 503 or pair["status"] == 503:
                return difference(answer, pair)
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def _around(self, before: str, after: str) -> AsyncIterator[None]:
        await self._execute(before)
        yield
        await self._execute(after)

    @asynccontextmanager
    async def _locked(self, pair: Pair) -> AsyncIterator[None]:
        key = json.loads(pair["request_body"])[0]["id"]
        patience = "alter role authenticated set statement_timeout = '{}'"
        async with (
            self._around(patience.format("200ms"), patience.format("8s")),
            await psycopg.AsyncConnection.connect(self.dsn("postgres")) as holder,
        ):
            await holder.execute("select from messages where id = %s for update", (key,))
            yield

    async def _execute(self, statement: str) -> None:
        """Runs a statement as `postgres`; what it says of roles holds when this returns."""
        async with await psycopg.AsyncConnection.connect(
            self.dsn("postgres"), autocommit=True
        ) as connection:
            await connection.execute(statement.encode())
        if "alter role" in statement:
            wanted, role = statement.split("'")[1], statement.split()[2]
            token = jwt.encode({"role": role}, self._keys.jwt_secret, "HS256")
            headers = {"Authorization": f"Bearer {token}"}
            told = ""
            while told != wanted:
                url = "http://localhost/rest/v1/rpc/whoami"
                async with await psycopg.AsyncConnection.connect(
                    self.dsn("postgres"), autocommit=True
                ) as connection:
                    await connection.execute("notify pgrst, 'reload schema'")
                told = (await self._client.post(url, json={}, headers=headers)).json()["st"]


def renewed(value: str, keys: Keys) -> str:
    """Signs a captured token anew; one that was meant to be bad stays as it is."""
    scheme, _, token = value.partition(" ")
    try:
        claims = json.loads(signed_claims(token, SECRET))
    except TokenError:
        return value
    for name in ("nbf", "iat"):
        if claims.get(name, 0) > TAKEN_AT + 100:
            claims[name] = time.time() + 9999
    return f"{scheme} {jwt.encode(claims, keys.jwt_secret, 'HS256')}"


def sent(body: str | dict[str, str] | None) -> bytes | None:
    """Gives the body as it was sent: decoded, or continued where the capture cuts it."""
    if isinstance(body, dict):
        return base64.b64decode(body["base64"])
    cut = re.fullmatch(r"(.*)\.\.\.\[cut, (\d+) chars\]", body or "", re.DOTALL)
    if body is None or cut is None:
        return body.encode() if body else None
    text, size = cut[1], int(cut[2])
    if "[[[[" in text:
        head = text[: text.index("[[[[")]
        depth = (size - len(head) - len("}]")) // 2
        return f"{head}{'[' * depth}{']' * depth}}}]".encode()
    return _continued(text, size).encode()


def _continued(text: str, size: int) -> str:
    """Goes on with rows like the first one, each with the next number, up to `size` characters."""
    head = text[: text.rindex("[{") + 1]
    separator = ", " if "}, {" in text else ","
    first = text[len(head) : text.index("}}") + 2]
    start = int(re.findall(r"\d+", first)[-1])
    tail = "]" + "}" * head.count("{")
    count = round((size - len(head) - len(tail)) / (len(first) + len(separator)))
    rows = (first.replace(str(start), str(start + n)) for n in range(count))
    made = head + separator.join(rows) + tail
    if len(made) == size + 1:  # the one row whose role is wrong, and one letter shorter
        made = "bad".join(made.rsplit("user", 1))
    return made


def difference(answer: httpx.Response, pair: Pair) -> str | None:
    """Says how an answer differs from the captured one, None where it does not."""
    captured = {name.lower(): value for name, value in pair["response_headers"]}
    wanted = (pair["status"], *(_steady(captured.get(name)) for name in HEADERS))
    got = (answer.status_code, *(_steady(answer.headers.get(name)) for name in HEADERS))
    if got != wanted:
        return f"{got} instead of {wanted}"
    body, whole = pair["response_body"] or "", answer.text
    if cut := re.fullmatch(r"(.*)\.\.\.\[cut, \d+ chars\]", body, re.DOTALL):
        body, whole = cut[1], whole[: len(cut[1])]
    if _steady(whole) != _steady(body):
        return f"{whole[:300]} instead of {body[:300]}"
    return None


def _steady(text: str | None) -> str | None:
    """Takes out what no two runs have in common: times, random ids, and an outage's moment."""
    if text is None:
        return None
    text = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+([+-]\d\d(:\d\d)?)?", "<time>", text)
    text = re.sub(r'"(exp|iat)": \d+', "<time>", text)
    text = re.sub(r'"(?!\w{8}-0000|1{8})\w{8}-\w{4}-4\w{3}-[89ab]\w{3}-\w{12}"', "<id>", text)
    return OUTAGE.sub("<outage>", text)


async def replayed(captures: Path = CAPTURES) -> AsyncIterator[Outcome]:
    """Replays every file on one database and gives what became of each request."""
    folder = Path(tempfile.mkdtemp(prefix="conv_rt_cap-"))
    os.chmod(folder, 0o755)
    keys = load_keys(folder / "keys.json")
    schema = (captures / "schema.sql").read_text()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        stage = Stage(folder, client, keys)
        stack.push_async_callback(stage.stop)
        await stage.start()
        await provision.bootstrap(stage.dsn("supabase_admin"), keys.db_password)
        async with await psycopg.AsyncConnection.connect(stage.dsn("postgres")) as db:
            await db.execute(schema[schema.index("create table conversations(") :].encode())
        api = DataApi(stage.dsn("authenticator"), keys.verify)
        await stack.enter_async_context(api)
        client._transport = httpx.ASGITransport(Starlette(routes=api.routes))
        for file in FILES:
            for line in (captures / f"{file}.jsonl").read_text().splitlines():
                yield await stage.replay(file, json.loads(line))


def stale(outcomes: Iterable[Outcome]) -> list[str | None]:
    """Gives what is recorded as different and is equal."""
    differing = {one.label for one in outcomes if one.difference is not None}
    return [why for why in RECORDED if why not in differing and RECORDED[why] not in VARYING]


async def _main(captures: Path) -> int:
    outcomes = []
    async for outcome in replayed(captures):
        sys.stdout.write(f"{outcome}\n")
        outcomes.append(outcome)
    counted = Counter(outcome.word for outcome in outcomes)
    sys.stdout.write(", ".join(f"{count} {word}" for word, count in counted.items()) + "\n")
    differing = {one.label for one in outcomes if one.difference is not None}
    stale = [
        label for label, why in RECORDED.items() if why != UNORDERED and label not in differing
    ]
    for label in stale:
        sys.stdout.write(f"recorded as different, and equal: {label}\n")
    return 1 if counted["DIFFERENT"] or stale else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(Path(sys.argv[1]) if len(sys.argv) > 1 else CAPTURES)))

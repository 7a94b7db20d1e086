"""The Data API answers as a real PostgREST 14 answered the same requests.

The captures lie beside the project (`../shared/captures`), not in it, so the test is defined only
where they are. Each exception below says why the answer may differ.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from starlette.applications import Starlette

from conv_realtime.local import provision
from conv_realtime.local.keys import Keys, TokenError, load_keys, signed_claims
from conv_realtime.local.postgres.server import Postgres
from conv_realtime.local.rest.service import DataApi

CAPTURES = Path(__file__).parents[3] / "shared" / "captures" / "postgrest-14"
SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
TAKEN_AT = 1795391288
"""When the captures were made: tokens for later times are minted anew."""

NOT_SENT = {
    "statement timeout (anon 3s)": "waits for seconds",
    "timeout user": "waits for seconds",
    "invalid utf8": "is no text in the capture",
    "gzip body": "is no text in the capture",
}
DIFFERENT = {
    None: "the captured database held rows of an earlier run",
    "embed": "embedding is refused by name",
    "csv": "CSV is refused by name",
    "PUT one row": "PUT is refused by name",
    "PUT mismatched": "PUT is refused by name",
    "filter on POST ignored?": "follows a PUT",
    "limit on POST": "follows a PUT",
    "accept object one": "follows a PUT",
    "GET root openapi": "the local API does not describe itself",
    "bad filter op": "another wording of the details",
    "bad select syntax": "an embedding, as far as the local API reads",
    "lowercase bearer": "no order was asked for",
    "long in filter 300 ids": "no order was asked for",
    "long in filter 1200 ids": "no order was asked for",
}
HEADERS = (
    "content-range",
    "content-type",
    "content-profile",
    "content-location",
    "location",
    "preference-applied",
    "proxy-status",
    "www-authenticate",
)


@pytest.fixture
async def keys(tmp_path: Path) -> Keys:
    """Secrets of the replay's own project."""
    return load_keys(tmp_path / "keys.json")


@pytest.fixture
async def postgrest(keys: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """The Data API alone, on the schema of the captures instead of ours."""
    folder = Path(tempfile.mkdtemp(prefix="conv_rt_cap-"))
    os.chmod(folder, 0o755)
    schema = (CAPTURES / "schema.sql").read_text()
    async with Postgres(folder) as postgres:
        await provision.bootstrap(postgres.dsn(), keys.db_password)
        async with await psycopg.AsyncConnection.connect(postgres.dsn(user="postgres")) as db:
            await db.execute(schema[schema.index("create table conversations(") :].encode())
        async with DataApi(postgres.dsn(user="authenticator"), keys.verify) as api:
            transport = httpx.ASGITransport(Starlette(routes=api.routes))
            base = "http://localhost/rest/v1"
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                yield client
    shutil.rmtree(folder, ignore_errors=True)


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


def steady(text: str | None) -> str:
    """Takes times and tokens' times out of a body."""
    text = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+([+-]\d\d(:\d\d)?)?", "<time>", text or "")
    return re.sub(r'"(exp|iat)": \d+|"version":"[^"]*"', "<time>", text)


async def replay(api: httpx.AsyncClient, keys: Keys, pair: dict[str, Any]) -> str | None:
    """Sends one captured request; gives how the answer differs, None where it does not."""
    dropped = ("host", "content-length", "apikey", "accept-encoding", "connection")
    headers = [
        (name, renewed(value, keys) if name == "Authorization" else value)
        for name, value in pair["request_headers"]
        if name.lower() not in dropped
    ]
    content = pair["request_body"].encode() if pair["request_body"] else None
    url = str(api.base_url).rstrip("/") + pair["url"]
    answer = await api.request(pair["method"], url, headers=headers, content=content)
    captured = {name.lower(): value for name, value in pair["response_headers"]}
    wanted = (pair["status"], *(captured.get(name) for name in HEADERS))
    got = (answer.status_code, *(answer.headers.get(name) for name in HEADERS))
    if got != wanted:
        return f"{got} instead of {wanted}"
    if steady(answer.text) != steady(pair["response_body"]):
        return f"{steady(answer.text)[:300]} instead of {steady(pair['response_body'])[:300]}"
    return None


if CAPTURES.is_dir():

    async def test_answers_equal_those_of_a_real_postgrest(
        postgrest: httpx.AsyncClient, keys: Keys
    ) -> None:
        """Status, headers and body are the same, request by request, but for named exceptions."""
        differing: dict[str, str] = {}
        for name in ("client-v14", "raw-v14"):
            for line in (CAPTURES / f"{name}.jsonl").read_text().splitlines():
                pair = json.loads(line)
                if pair["label"] in NOT_SENT:
                    continue
                difference = await replay(postgrest, keys, pair)
                if difference and pair["label"] not in DIFFERENT:
                    differing[pair["label"]] = difference
        assert not differing

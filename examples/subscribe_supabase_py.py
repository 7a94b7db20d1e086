"""Follow everything that you own with supabase-py alone, without this library.

    export SUPABASE_URL=... SUPABASE_PUBLISHABLE_KEY=...
    USER_EMAIL=... USER_PASSWORD=... python examples/subscribe_supabase_py.py

The local Supabase has no sign-in; there a token takes its place. `conv-realtime up --json` prints
the URL and the key, and so does `conv-realtime status --json` where it runs already:

    USER_TOKEN=$(conv-realtime token) python examples/subscribe_supabase_py.py

You will see each message as it is written, on whatever machine, and again where it grows:

    [Fix the lamp] user: It flickers.
    [Fix the lamp] assistant: The contact is loose.

Realtime says when to look, and may lose that without a word; `changes_since` has every row, in
order, and its cursor is the place to go on from. So a lost broadcast costs time and no message.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import jwt
from postgrest import APIError
from supabase import AsyncClient, acreate_client

LOOK_SECONDS = 15.0  # between reads that nobody asked for
SOON_SECONDS = 0.05  # between reads for what was announced and is not visible yet
PRIVATE: Any = {"config": {"private": True}}


async def sign_in(supabase: AsyncClient) -> str:
    """Sign in by what the environment has, and return the user's id."""
    if token := os.environ.get("USER_TOKEN"):
        supabase.postgrest.auth(token)
        await supabase.realtime.set_auth(token)
        return str(jwt.decode(token, options={"verify_signature": False})["sub"])
    email, password = os.environ["USER_EMAIL"], os.environ["USER_PASSWORD"]
    answer = await supabase.auth.sign_in_with_password({"email": email, "password": password})
    assert answer.user is not None  # it raises where there is none
    return answer.user.id


async def changes(supabase: AsyncClient, user: str) -> AsyncIterator[dict[str, Any]]:
    """Yield every change from now on, each row once as it is then: `table`, `created`, `row`."""
    due = asyncio.Event()
    announced = cursor = (await page(supabase, None))["cursor"]

    def hear(message: Any) -> None:
        nonlocal announced
        announced = max(announced, message["payload"]["cursor"], key=place)
        due.set()

    channel = supabase.channel(f"conv_realtime:owner:{user}", PRIVATE)
    channel.on_broadcast("changed", hear)
    await channel.subscribe(lambda state, error: due.set())
    print(f"following what {user} owns")
    while True:
        due.clear()
        try:
            found = await page(supabase, cursor)
        except (APIError, httpx.TransportError) as error:
            print(f"Supabase is away: {error!r}")
            await asyncio.sleep(1)
            continue
        for change in found["changes"]:
            yield change
        cursor = found["cursor"]
        if found["resync"]:
            print("another database: what was written to it before now is not shown")
            announced = cursor
        if found["more"]:
            continue
        wait = LOOK_SECONDS if place(cursor) >= place(announced) else SOON_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await due.wait()


async def page(supabase: AsyncClient, cursor: str | None) -> dict[str, Any]:
    """Return what came after `cursor`, at most 500 changes; of None the present cursor alone."""
    answer = await supabase.rpc("changes_since", {"cursor": cursor}).execute()
    found: Any = answer.data
    return dict(found)


def place(cursor: str) -> list[int]:
    """Return where a cursor stands among others of its stream."""
    return [int(number) for number in cursor.rpartition(".")[2].split("-")]


async def main() -> None:
    """Run until interrupted."""
    url, key = os.environ["SUPABASE_URL"], os.environ["SUPABASE_PUBLISHABLE_KEY"]
    supabase = await acreate_client(url, key)
    async for change in changes(supabase, await sign_in(supabase)):
        row = change["row"]
        if change["table"] == "messages" and row["text"]:
            line = f"[{row['conversation']['title']}] {row['role']}: {row['text'][:80]}"
            print("".join(filter(str.isprintable, line)))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())

"""The official clients hold the shared conversation, at the local Supabase or any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial

import pytest

from conv_realtime.local import LocalSupabase
from tests.clients.client import Client
from tests.clients.conversation import SCRIPT, Stage
from tests.clients.javascript import NEWEST, NODE_20, javascript
from tests.clients.python import python
from tests.local.own_postgres import open_folder
from tests.project import SupabaseProject
from tests.report import LEFT_OUT

Opening = Callable[[SupabaseProject], AbstractAsyncContextManager[Client]]

CLIENTS: list[object] = [
    pytest.param(python, id="supabase-py"),
    pytest.param(partial(javascript, flavour=NODE_20), id="supabase-js of Node 20",
                 marks=pytest.mark.node),
    pytest.param(partial(javascript, flavour=NEWEST), id="supabase-js, the newest",
                 marks=pytest.mark.node),
]  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where the conversation is held, and how to restart it if that is ours to do."""

    project: SupabaseProject
    restart: Callable[[], Awaitable[None]] | None


@pytest.fixture
async def place(supabase: SupabaseProject) -> AsyncIterator[Place]:
    """The Supabase under test; here, a local one that may be stopped."""
    if not supabase.local:
        yield Place(supabase, None)
        return
    with open_folder() as folder:
        async with AsyncExitStack() as stack:
            running = AsyncExitStack()
            stack.push_async_callback(lambda: running.aclose())
            local = await running.enter_async_context(LocalSupabase(folder, port=0))
            port = int(local.url.rpartition(":")[2])

            async def restart() -> None:
                nonlocal running
                await running.aclose()
                running = AsyncExitStack()
                await running.enter_async_context(LocalSupabase(folder, port=port))

            yield Place(SupabaseProject.of(local), restart)


# realtime-py reads deprecated attributes when its connection breaks; as errors they would end it.
@pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning")
@pytest.mark.parametrize("opening", CLIENTS)
async def test_a_client_holds_the_conversation(
    place: Place, opening: Opening, record_property: Callable[[str, object], None]
) -> None:
    """Every step of the script, in its order."""
    project = place.project
    if place.restart is None:
        record_property(LEFT_OUT, "the restart of a server that is not ours")
    # Sign-ins are requests that block.
    member, stranger = [await asyncio.to_thread(project.member) for _ in range(2)]
    async with opening(project) as client, opening(project) as neighbour:
        stage = Stage(project, member, stranger, client, neighbour, place.restart)
        for step in SCRIPT:
            try:
                await step(stage)
            except BaseException as error:
                error.add_note(f"in the step {step.__name__}: {step.__doc__}")
                raise

"""What clients of a day have, compared with what is stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from tests.simulator.database import Rows
from tests.simulator.followers import Client, State, shown


async def differences(
    clients: Sequence[Client], conversations: Rows, messages: Rows, stated: Collection[str]
) -> list[str]:
    """Return where a client has something else than the rows; files state the `stated` ones."""
    live = {id: shown(row) for id, row in messages.items() if row["deleted_at"] is None}
    stored: State = {id: shown(row) for id, row in conversations.items()} | live
    wrong: list[str] = []
    for number, client in enumerate(clients):
        client.check()
        state = await client.state()
        if client.place == "javascript":
            expected: State = {id: row[:1] for id, row in _conversations_of(stored).items()}
        else:
            expected = stored
        if client.place == "bridge":
            # It knows of what lies in files now. What it has heard beside that is true, too,
            # if not the newest: of a file that is gone it may have forgotten the end.
            old = {id: row for id, row in stored.items() if _place_of(id, row) not in stated}
            state = {id: row for id, row in state.items() if id not in old or row[0] > old[id][0]}
            expected = {id: row for id, row in stored.items() if id not in old}
        different = {id for id in {*state, *expected} if state.get(id) != expected.get(id)}
        wrong += (
            f"{type(client).__name__} {number} of {client.place} has"
            f" {state.get(id)} and not {expected.get(id)} ({id})"
            for id in different
        )
    return wrong


def _conversations_of(state: State) -> State:
    """Return the conversations of a state: what has no place in one."""
    return {id: row for id, row in state.items() if len(row) == 4}


def _place_of(id: str, row: tuple[Any, ...]) -> str:
    return id if len(row) == 4 else str(row[1])

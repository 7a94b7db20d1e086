"""Writers that overlap neither stand in each other's way nor leave another history behind."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from typing import Any

from tests.sql.database import Database
from tests.sql.rows import conversation, message, project

WRITERS = 4
ROUNDS = 12


def test_overlapping_writers_neither_deadlock_nor_regress(db: Database, alice: str) -> None:
    """Batches sorted by the row they hang under and by id; the highest revisions remain.

    Foreign keys lock parents in the order of the rows, upserts lock the rows themselves: one
    order for both, or the database would break a circle by failing a writer.
    """
    shops = [project(alice, f"/{number}") for number in range(3)]
    talks = [conversation(alice, project_id=shops[number % 3]["id"]) for number in range(9)]
    with db.user(alice) as request:
        request.upsert("projects", shops)
        request.upsert("conversations", talks)
    errors: list[BaseException] = []
    sent: dict[str, int] = {}
    guard = threading.Lock()

    def write(number: int) -> None:
        choose = random.Random(number)
        try:
            for _ in range(ROUNDS):
                own = choose.sample(talks, 6)
                revision = choose.randint(101, 999)
                batch = [talk | {"revision": revision} for talk in own]
                lines = [
                    message(choose.choice(own), position, revision=choose.randint(1, 999))
                    for position in choose.sample(range(30), 12)
                ]
                for table, rows in (("conversations", batch), ("messages", lines)):
                    with db.user(alice) as request:
                        request.upsert(table, sorted(rows, key=order))
                with guard:
                    for row in (*batch, *lines):
                        sent[row["id"]] = max(row["revision"], sent.get(row["id"], 0))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with db.user(alice) as request:
        stored = {
            str(row["id"]): row["revision"]
            for table in ("conversations", "messages")
            for row in request.rows(f"select id, revision from public.{table}")
        }
    assert {key: stored[key] for key in sent} == sent


def order(row: Mapping[str, Any]) -> tuple[str, str]:
    """By conversation, then by id."""
    return (row.get("conversation_id", ""), row["id"])

"""A database that was restored elsewhere begins a new stream and loses nothing."""

from __future__ import annotations

import pytest

from tests.sql.rows import conversation
from tests.sql.scratch import Scratch

# As from a cluster that had seen many more transactions than this one.
AGED = [
    "set local session_replication_role = replica",
    "update public.conversations set change_tx = change_tx + (1::bigint << 40),"
    " change_created_tx = change_created_tx + (1::bigint << 40)",
]


@pytest.mark.parametrize("aged", [True, False], ids=["from an older cluster", "copied"])
def test_a_restored_database_answers_resync(scratch: Scratch, alice: str, aged: bool) -> None:
    """Once: from the start all rows are there, and new ones come after them."""
    original = scratch.migrated()
    old, new, newer = (conversation(alice) for _ in range(3))
    with scratch.database(original).user(alice) as request:
        request.upsert("conversations", [old])
    with scratch.database(original).user(alice) as request:
        cursor = request.changes(None)["cursor"]
    restored = scratch.copy(original)
    if aged:
        scratch.run(scratch.boss(restored), *AGED)
    db = scratch.database(restored)

    with db.user(alice) as request:
        answer = request.changes(cursor)
        assert (answer["changes"], answer["resync"]) == ([], True)
        everything = request.changes("start")
    assert [one["row"]["id"] for one in everything["changes"]] == [old["id"]]

    for row in (new, newer):
        with db.user(alice) as request:
            request.upsert("conversations", [row])
    for since in (answer["cursor"], everything["cursor"]):
        with db.user(alice) as request:
            changes = request.changes(since)["changes"]
        assert [(one["row"]["id"], one["created"]) for one in changes] == [
            (new["id"], True),
            (newer["id"], True),
        ]
    with db.user(alice) as request:
        request.upsert("conversations", [old | {"revision": 101}])
    with db.user(alice) as request:
        changes = request.changes(everything["cursor"])["changes"]
        assert [one["created"] for one in changes] == [True, True, False]
        ids = [one["row"]["id"] for one in request.changes("start")["changes"]]
    assert ids == [new["id"], newer["id"], old["id"]]


def test_the_original_goes_on(scratch: Scratch, alice: str) -> None:
    """Two databases of one origin do not take each other's cursors."""
    original = scratch.migrated()
    copied = scratch.copy(original)
    cursors = []
    for name in (original, copied):
        with scratch.database(name).user(alice) as request:
            request.upsert("conversations", [conversation(alice)])
        with scratch.database(name).user(alice) as request:
            cursors.append(request.changes("start")["cursor"])
    for name, own, foreign in ((original, *cursors), (copied, *reversed(cursors))):
        with scratch.database(name).user(alice) as request:
            assert request.changes(own)["resync"] is False
            assert request.changes(foreign)["resync"] is True

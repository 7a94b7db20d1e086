"""The format of Parrot, an assistant that appends an object a line to `~/.parrot/<chat>.parrot`.

    echo '{"by": "parrot", "says": "hi hi"}' > one.parrot
    python examples/custom_format.py one.parrot

You will see `assistant: hi hi`.
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime import Ingest, JsonLines, Machine, Noted, Said, testing


class Parrot(JsonLines):
    source, title, suffix = "parrot", "Parrot", ".parrot"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        return machine.folders("PARROT_HOME", ".parrot")

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        return path.stem if "says" in records[0] else None

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        return Said("assistant" if fields.get("by") == "parrot" else "user", fields["says"])

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        return Noted(at=fields.get("at"), cwd=fields.get("in"))


async def show(paths: Sequence[str]) -> None:
    store, user, state = testing.MemoryStore(), testing.OWNER, tempfile.mkdtemp()
    async with Ingest(store=store, formats=[Parrot()], owner_id=user, state_dir=state) as ingest:
        await ingest.backfill(paths)
    for message in sorted(store.messages.values(), key=lambda row: row.seq):
        print(f"{message.role}: {message.text}")


if __name__ == "__main__":
    asyncio.run(show(sys.argv[1:]))

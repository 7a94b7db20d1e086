"""A transcript format of your own: `python examples/custom_format.py FILE…` prints what is read.

Parrot, the assistant of this example, appends one object a line to `~/.parrot/<chat>.parrot`.
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
        if "says" not in fields:
            return None
        return Said("assistant" if fields.get("by") == "parrot" else "user", str(fields["says"]))

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        return Noted(cwd=str(fields["in"])) if "in" in fields else Noted()


async def main(paths: Sequence[str]) -> None:
    store, state = testing.MemoryStore(), tempfile.mkdtemp()
    async with Ingest(
        store=store, formats=[Parrot()], state_dir=state, owner_id=testing.OWNER
    ) as ingest:
        await ingest.backfill(paths)
    for message in sorted(store.messages.values(), key=lambda row: row.seq):
        print(f"{message.role}: {message.text}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

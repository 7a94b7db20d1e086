"""Ingest alone: what the assistants of this machine write goes to Supabase; nothing is served.

    conv-realtime local                  # a Supabase on this machine; prints what to set
    export SUPABASE_URL=... SUPABASE_SECRET_KEY=... CONV_REALTIME_OWNER_ID=...
    python examples/ingest_only.py

You will see a line now and whenever something was sent, and why where it is not:

    transcripts: 41, rows written: 1203, messages waiting: 0
    transcripts: 41, rows written: 1205, messages waiting: 0

Stop it at any instant: the next run writes what is missing, and nothing twice. `relay_only.py`
shows on another machine what this one writes.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from conv_realtime import Ingest


async def report(ingest: Ingest) -> None:
    """Say how far it is, whenever that changes."""
    said = None
    while True:
        health, counts = ingest.health(), ingest.readings()
        line = (
            f"transcripts: {health['files']}, rows written: {counts['rows_upserted']:.0f},"
            f" messages waiting: {health['queue']}"
        )
        if health["last_error"]:
            line += f": {health['last_error']}"
        if line != said:
            print(line)
        said = line
        await asyncio.sleep(0.5)


async def main() -> None:
    """Run until interrupted."""
    async with Ingest() as ingest, asyncio.TaskGroup() as tasks:
        tasks.create_task(ingest.run(), name="ingest")
        tasks.create_task(report(ingest), name="report")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())

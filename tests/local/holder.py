"""A process that runs PostgreSQL until it is killed: `python holder.py FOLDER`.

Prints a JSON object with the pids of PostgreSQL and of its guard, and the DSN.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from conv_realtime.local.postgres.server import Postgres


async def main(folder: Path) -> None:
    """Starts PostgreSQL and waits for ever."""
    async with Postgres(folder) as postgres:
        told = {"postgres": postgres.pid, "guard": postgres.guard_pid, "dsn": postgres.dsn()}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

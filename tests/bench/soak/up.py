"""`conv-realtime up` that says now and then how many tasks it has: `python -m … FILE ARGUMENT…`."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path
from unittest.mock import patch

from conv_realtime.background import beside
from conv_realtime.cli import main
from conv_realtime.cli.serve import Serving
from conv_realtime.ingest import tender

SECONDS = 5.0
FOLDS = 12
"""Files whose folds stay in memory: 256 would be reached only after a day."""


async def _sample(file: Path) -> None:
    while True:
        gc.collect()  # what waits to be collected is not held
        counts = {"tasks": len(asyncio.all_tasks()), "objects": len(gc.get_objects())}
        file.with_suffix(".new").write_text(json.dumps(counts))
        file.with_suffix(".new").replace(file)
        await asyncio.sleep(SECONDS)


if __name__ == "__main__":
    _, told, *arguments = sys.argv
    whole = Serving.up

    async def up(self: Serving) -> None:
        """Serve, and count beside it."""
        async with beside(_sample(Path(told)), "sampler"):
            await whole(self)

    with patch.object(Serving, "up", up), patch.object(tender, "FOLDS_KEPT", FOLDS):
        main(["up", *arguments])

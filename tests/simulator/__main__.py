"""`python -m tests.simulator --seeds 1000 --kills 100`, or `--seed 17 [--kill]` for one again."""

from __future__ import annotations

import argparse
import logging
import sys

from conv_realtime.testing import SupabaseServer
from tests.simulator.play import play
from tests.simulator.script import script


def main() -> int:
    """Play what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("-v", action="store_true")
    asked = parser.parse_args()
    logging.basicConfig(format="%(relativeCreated)d %(name)s %(message)s", level=logging.ERROR)
    if asked.v:
        logging.getLogger("conv_realtime").setLevel(logging.DEBUG)
    bad = 0
    with SupabaseServer() as server:
        for seed in range(asked.seed, asked.seed + asked.seeds):
            report = play(server, seed, script(seed, kill=asked.kill), kill=asked.kill)
            print(seed, f"{report.seconds:.2f} s", report.wrong or "ok", flush=True)
            bad += bool(report.wrong)
    return 1 if bad else 0


sys.exit(main())

"""`conv-realtime up` that waits less than usual: what the kill mode kills."""

from __future__ import annotations

import sys

from conv_realtime.cli import main
from tests.simulator.processes import impatience

if __name__ == "__main__":
    with impatience():
        main(["up", *sys.argv[1:], "--json", "--port", "0", "--log-level", "error"])

"""How long the local Supabase takes to be ready.

    python examples/startup.py [--times 5]

Starts `conv-realtime local` on an empty state directory and again on the same one, each so many
times, and prints the median and the range in seconds: from the start of the process until it has
printed `ready`, its migrations applied and its API answering.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def start(state: Path) -> float:
    """Starts it, waits until it is ready, stops it; gives the seconds until it was ready."""
    command = [sys.executable, "-m", "conv_realtime", "local", "--json", "--port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, "--state-dir", state], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        seconds = time.perf_counter() - began
        assert told["event"] == "ready"
        process.terminate()
    return seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    cold, warm = [], []
    for _ in range(times):
        folder = Path(tempfile.mkdtemp(prefix="conv_realtime_startup-"))
        folder.chmod(0o755)  # under root PostgreSQL runs as another account
        try:
            cold.append(start(folder))
            warm.append(start(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    for name, seconds in (("cold", cold), ("warm", warm)):
        median = statistics.median(seconds)
        print(f"{name}: {median:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()

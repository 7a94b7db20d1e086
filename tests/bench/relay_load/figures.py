"""What the measurements share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.bench.harness import Figure

QUIET: dict[str, Any] = {"ws_ping_interval": None}
"""uvicorn's part of silence: the sinks answer no ping, neither its nor the relay's."""

TEXT = "x" * 400


class Measured(Protocol):
    """What a measurement returns: a dataclass that can be shown."""

    def figures(self) -> Sequence[Figure]:
        """Return its lines."""
        ...


def process_cpu(pid: int) -> float:
    """Return seconds of CPU that all threads of a process have had, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

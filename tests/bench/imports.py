"""What importing the package costs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from tests.bench.harness import Figure, Finding, Scale, benchmark, in_turns

PROGRAMS = {
    "import pydantic": "import pydantic",
    "import conv_realtime": "import conv_realtime",
    "from conv_realtime import Bridge": "from conv_realtime import Bridge",
}


@benchmark("import")
def imports(scale: Scale) -> Iterator[Finding]:
    """CPU of a new process that imports the package, beside one that imports pydantic."""
    took: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _, name in in_turns(list(PROGRAMS), scale.pick(15, 7, 1)):
        took[name].append(_cpu_ms(PROGRAMS[name]))
    for name, values in took.items():
        yield Figure(name, "ms", values)
    ours, theirs = took["import conv_realtime"], took["import pydantic"]
    more = [one - other for one, other in zip(ours, theirs, strict=True)]
    yield Figure("import conv_realtime, beyond pydantic", "ms", more, at_most=40.0)


def _cpu_ms(program: str) -> float:
    process = subprocess.Popen([sys.executable, "-c", program])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return (used.ru_utime + used.ru_stime) * 1000

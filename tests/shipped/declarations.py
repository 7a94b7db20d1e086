"""The declarations of the JavaScript clients, made from the types in their comments.

    python -m tests.shipped.declarations

writes them beside the modules. TypeScript takes a declaration for the module that it stands beside,
so they are made from a copy.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.node import JS, node

ROOT = Path(__file__).parent.parent.parent
VIEWER = ROOT / "conv_realtime" / "viewer"
MODULES = (
    *("client", "subscription", "conversations", "changes", "channels"),
    *("lifecycle", "pauses", "rows"),
)


def compiler(*arguments: str | Path) -> None:
    """Run TypeScript's compiler.

    Raises:
        AssertionError: it complains; the message says about what.
    """
    tsc = JS / "node_modules" / "typescript" / "bin" / "tsc"
    done = subprocess.run(
        [node(), tsc, *arguments], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr


def generate() -> dict[str, str]:
    """Check the modules strictly; return the text of each declaration by file name."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in (*(f"{module}.js" for module in MODULES), "types.d.ts", "package.json"):
            shutil.copy(VIEWER / name, copy)
        shutil.copy(JS / "types" / "checked.json", copy / "tsconfig.json")
        compiler("-p", copy, "--outDir", copy / "out")
        return {
            f"{module}.d.ts": (copy / "out" / f"{module}.d.ts").read_text() for module in MODULES
        }


if __name__ == "__main__":
    for name, text in generate().items():
        (VIEWER / name).write_text(text)

"""The wheel, in an environment of its own, as `pipx install` leaves it.

    python -m tests.from_wheel

builds it, installs it with the extra `local`, and runs commands from an empty folder with an empty
home: the schema is written, and `doctor` finds nothing wrong with the local Supabase. Takes half a
minute, so CI runs it once and the tests do not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from conv_realtime.sql import migrations

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Raise where something fails."""
    with tempfile.TemporaryDirectory(prefix="conv-rt-wheel-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)  # PostgreSQL runs as another user under root
        build = [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(folder),
        ]
        subprocess.run([*build, str(ROOT)], check=True, stdout=subprocess.DEVNULL)
        (wheel,) = folder.glob("*.whl")
        venv.create(folder / "venv", with_pip=True)
        bin = folder / "venv" / "bin"
        install = [str(bin / "pip"), "install", "-q", f"{wheel}[local]"]
        subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
        home = folder / "home"
        home.mkdir()
        kept = ("PATH", "LANG", "PIP_INDEX_URL")
        environment = {name: value for name, value in os.environ.items() if name in kept}
        environment |= {"HOME": str(home), "PYTHONSAFEPATH": "1"}

        def run(*arguments: str) -> str:
            done = subprocess.run(
                [str(bin / "conv-realtime"), *arguments],
                cwd=home, env=environment, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, (arguments, done.stdout, done.stderr)
            return done.stdout

        assert run("--version").strip().endswith("0.1.0")
        run("migrations", str(home / "migrations"))
        written = sorted(path.name for path in (home / "migrations").iterdir())
        assert written == [migration.filename for migration in migrations()]
        sys.stdout.write(run("doctor", "--local-port", "0"))


if __name__ == "__main__":
    main()

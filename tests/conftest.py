"""What every test may ask for: one local Supabase a run, and an owner of its own a test."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest

from conv_realtime.local import LocalSupabase
from conv_realtime.local.postgres import placement

_START_SECONDS = 60.0
_JS = Path(__file__).parent / "js"


def pytest_configure(config: pytest.Config) -> None:
    """Fetch what the tests of JavaScript clients need, once, where there is npm.

    Where that fails, these tests are skipped and say why.
    """
    worker = hasattr(config, "workerinput")
    if not worker and shutil.which("npm") and not (_JS / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=_JS, check=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI everything that a test may need is there, so a test that is skipped has failed."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


@dataclass(frozen=True)
class Owner:
    """A user of the local Supabase that no other test knows: isolation by owner."""

    id: str
    token: str


@pytest.fixture(scope="session")
def local_supabase() -> Iterator[LocalSupabase]:
    """A running local Supabase, in a thread and an event loop of its own."""
    # Not pytest's folder: that one is closed, so under root the data would move elsewhere.
    folder = Path(tempfile.mkdtemp(prefix="conv_rt_test-"))
    folder.chmod(0o755)
    running: Future[tuple[LocalSupabase, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(
        target=lambda: asyncio.run(_run(folder, running)), name="local_supabase", daemon=True
    )
    thread.start()
    try:
        local, loop, stop = running.result(_START_SECONDS)
        yield local
        loop.call_soon_threadsafe(stop.set)
        thread.join(_START_SECONDS)
        assert not thread.is_alive(), "the local Supabase did not stop"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(
    folder: Path, running: Future[tuple[LocalSupabase, asyncio.AbstractEventLoop, asyncio.Event]]
) -> None:
    stop = asyncio.Event()
    try:
        async with LocalSupabase(folder, port=0) as local:
            running.set_result((local, asyncio.get_running_loop(), stop))
            await stop.wait()
    except BaseException as error:
        if not running.done():
            running.set_exception(error)
            return
        raise


@pytest.fixture(scope="session", autouse=True)
def _tidy_shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Removes what root's databases of this run kept outside of the temporary folders."""
    yield
    temporary = tmp_path_factory.getbasetemp().resolve()
    for told in placement.SHELF.glob(f"*/{placement.BACK}"):
        if Path(told.read_text()).is_relative_to(temporary):
            shutil.rmtree(told.parent, ignore_errors=True)


@pytest.fixture
def owner(local_supabase: LocalSupabase) -> Owner:
    """A fresh user with a token that is good for the test."""
    user = str(uuid.uuid4())
    return Owner(user, local_supabase.token(sub=user))

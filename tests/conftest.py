"""What every test may ask for: one local Supabase a run, and an owner of its own a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from conv_realtime.local import LocalSupabase
from conv_realtime.local.postgres import placement
from conv_realtime.testing.threads import InThread, LoopThread
from tests.local.own_postgres import open_folder
from tests.project import Owner as Owner  # where tests look for it
from tests.project import SupabaseProject, borrowed, from_environment
from tests.report import Report

_JS = Path(__file__).parent / "js"
_NAMED = pytest.StashKey[SupabaseProject]()
_REPORT = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    """Fetch what the tests of JavaScript clients need, once, where there is npm.

    Where that fails, these tests are skipped and say why. Against somebody's own Supabase a run
    is one process, and ends with a report.
    """
    worker = hasattr(config, "workerinput")
    named = from_environment()
    if named is not None:
        if worker or getattr(config.option, "numprocesses", None):
            raise pytest.UsageError("against a Supabase of your own: without -n")
        config.stash[_REPORT] = report = Report(named)
        config.pluginmanager.register(report)
        config.stash[_NAMED] = named
    if not worker and shutil.which("npm") and not (_JS / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=_JS, check=False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks what runs at any Supabase: the tests that ask for `supabase` and for nothing local.

    Where one is named, nothing else runs.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "supabase" in fixtures and "local_supabase" not in fixtures:
            item.add_marker("supabase")
    if _NAMED in config.stash:
        others = [item for item in items if item.get_closest_marker("supabase") is None]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.get_closest_marker("supabase")]


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


@pytest.fixture(scope="session")
def local_supabase() -> Iterator[LocalSupabase]:
    """A running local Supabase, in a thread and an event loop of its own."""
    with open_folder() as folder, LoopThread("local_supabase") as thread:
        with InThread(thread, LocalSupabase(folder, port=0)) as local:
            yield local


@pytest.fixture(scope="session")
def supabase(request: pytest.FixtureRequest) -> Iterator[SupabaseProject]:
    """A Supabase by its URL and keys: the reader's own where the environment names one."""
    named = request.config.stash.get(_NAMED, None)
    if named is None:
        yield SupabaseProject.of(request.getfixturevalue("local_supabase"))
        return
    try:
        with borrowed(named):
            request.config.stash[_REPORT].ready()
            yield named
    except pytest.UsageError as error:  # once, not for every test
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.fixture
def member(supabase: SupabaseProject) -> Owner:
    """A fresh user of `supabase` with a token that is good for the test."""
    return supabase.member()


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

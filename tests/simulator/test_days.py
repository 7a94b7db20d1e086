"""Forty days and ten of `kill -9`, each from a seed. `python -m tests.simulator` plays more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conv_realtime.testing import SupabaseServer
from tests.simulator.play import play, told
from tests.simulator.script import script

# Who dies in the middle of something closes nothing.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="session")
def server() -> Iterator[SupabaseServer]:
    """One PostgreSQL for all days of a run; each has a database of its own."""
    with SupabaseServer() as server:
        yield server


@pytest.mark.parametrize("seed", range(40))
def test_a_day_ends_in_what_the_files_say(seed: int, server: SupabaseServer) -> None:
    """The database and every client, whatever was done to files, processes and network."""
    report = play(server, seed, script(seed))
    assert not report.wrong, told(report)


@pytest.mark.node
@pytest.mark.parametrize("seed", range(40, 44))
def test_a_day_with_a_browsers_client(seed: int, server: SupabaseServer) -> None:
    """The same with our client for supabase-js, which learns of everything from Supabase alone."""
    report = play(server, seed, script(seed), javascript=True)
    assert not report.wrong, told(report)


@pytest.mark.parametrize("seed", range(10))
def test_a_day_of_kills_ends_in_what_the_files_say(seed: int, server: SupabaseServer) -> None:
    """The same where the bridge is `conv-realtime up` and ends by `kill -9`."""
    report = play(server, seed, script(seed, kill=True), kill=True)
    assert not report.wrong, told(report)

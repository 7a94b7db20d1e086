"""The pytest plugin: a Supabase project for every test that asks for one.

Installed with conv_realtime, so pytest imports it in every run, also in those that never use it:
nothing is imported here that is not needed to say what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from conv_realtime.testing.supabase import SupabaseLocal, SupabaseServer

_T = TypeVar("_T")

_CHOICES = {"migrations", "seed", "schema", "owner_id"}
_MARKER = (
    "supabase_local(migrations=..., seed=..., schema=..., owner_id=...): "
    "what the project of the fixture supabase_local is made of"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Settings of the project, in pyproject.toml or pytest.ini; paths are relative to it."""
    parser.addini("supabase_local_migrations", "folder of migrations for supabase_local")
    parser.addini("supabase_local_seed", "file of SQL that follows the migrations")
    parser.addini(
        "supabase_local_schema",
        "with conv_realtime's own tables (default: only without migrations of your own)",
        type="bool",
        default=None,
    )
    parser.addini("supabase_local_folder", "where the databases lie (default: in memory, or tmp)")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def supabase_local_server(request: pytest.FixtureRequest) -> Iterator[SupabaseServer]:
    """The PostgreSQL of this run, or of this xdist worker: `project()` gives more projects."""
    folder = _path(request.config, request.config.getini("supabase_local_folder"))
    with _entered(lambda: _server(folder)) as server:
        yield server


@pytest.fixture
def supabase_local(
    request: pytest.FixtureRequest, supabase_local_server: SupabaseServer
) -> Iterator[SupabaseLocal]:
    """A Supabase project of this test alone: Data API, Realtime, keys, and faults on demand."""
    with _entered(lambda: supabase_local_server.project(**_wanted(request))) as supabase:
        yield supabase


def _server(folder: Path | None) -> SupabaseServer:
    from conv_realtime import testing

    return testing.SupabaseServer(folder)


@contextmanager
def _entered(make: Callable[[], AbstractContextManager[_T]]) -> Iterator[_T]:
    """Enters what is made; where that cannot be, the test says why in a line, without our code."""
    from conv_realtime.errors import ConfigError, MigrationError

    reason = None
    with ExitStack() as stack:
        try:
            value = stack.enter_context(make())
        except (ModuleNotFoundError, ConfigError, MigrationError) as error:
            reason = f"supabase_local: {error}"
        else:
            yield value
    if reason is not None:  # outside of the block above: pytest shows what was being handled
        pytest.fail(reason, pytrace=False)


def _wanted(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Reads the settings; the nearest marker counts, then the configuration."""
    config = request.config
    schema = config.getini("supabase_local_schema")
    wanted: dict[str, Any] = {
        "migrations": config.getini("supabase_local_migrations") or None,
        "seed": config.getini("supabase_local_seed") or None,
        "schema": schema,
    }
    marker = request.node.get_closest_marker("supabase_local")
    if marker is not None:
        if marker.args or marker.kwargs.keys() - _CHOICES:
            pytest.fail(f"the marker is {_MARKER}", pytrace=False)
        wanted |= marker.kwargs
    for name in ("migrations", "seed"):
        wanted[name] = _path(config, wanted[name])
    return wanted


def _path(config: pytest.Config, given: str | Path | None) -> Path | None:
    base = config.inipath.parent if config.inipath is not None else config.rootpath
    return base / given if given else None

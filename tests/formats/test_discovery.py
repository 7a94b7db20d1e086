"""Where assistants write, on every system, and what is asked of a file where."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from conv_realtime import Ingest, Machine
from conv_realtime.core.formats import BUILT_IN
from conv_realtime.testing import OWNER, MemoryStore, claude_line
from conv_realtime.testing.formats.examples import built_in
from tests.ingest.running import until

_FORMS = {form.source: form for form in BUILT_IN}
_NEVER = ("aider", "chat_log", "chat_dataset")

_ROAMING = {"APPDATA": "C:/Users/ada/AppData/Roaming"}


def _places(source: str, platform: str, environ: dict[str, str]) -> list[str]:
    windows = platform == "win32"
    homes = {"darwin": PurePosixPath("/Users/ada"), "linux": PurePosixPath("/home/ada")}
    home = PureWindowsPath("C:/Users/ada") if windows else homes[platform]
    machine = Machine(home, environ, platform)
    return [place.as_posix() for place in _FORMS[source].places(machine)]


@pytest.mark.parametrize(
    ("source", "platform", "environ", "expected"),
    [
        ("claude_code", "linux", {}, "/home/ada/.claude/projects"),
        ("claude_code", "linux", {}, "/home/ada/.config/claude/projects"),
        ("claude_code", "linux", {"CLAUDE_CONFIG_DIR": "~/a,/b"}, "/home/ada/a/projects"),
        ("claude_code", "linux", {"CLAUDE_CONFIG_DIR": "~/a,/b"}, "/b/projects"),
        ("claude_code", "win32", {}, "C:/Users/ada/.claude/projects"),
        (
            "claude_code",
            "darwin",
            {},
            "/Users/ada/Library/Application Support/Claude/local-agent-mode-sessions",
        ),
        (
            "claude_code",
            "win32",
            _ROAMING,
            "C:/Users/ada/AppData/Roaming/Claude/local-agent-mode-sessions",
        ),
        ("openclaude", "linux", {"OPENCLAUDE_CONFIG_DIR": "/o"}, "/o/projects"),
        ("qoder", "linux", {}, "/home/ada/.config/Qoder/SharedClientCache/cli/projects"),
        (
            "qoder",
            "win32",
            _ROAMING,
            "C:/Users/ada/AppData/Roaming/Qoder/SharedClientCache/cli/projects",
        ),
        ("codex", "linux", {"CODEX_HOME": "/c"}, "/c/sessions"),
        ("iflow", "darwin", {}, "/Users/ada/.iflow/projects"),
        ("continue", "linux", {"CONTINUE_GLOBAL_DIR": "/c"}, "/c/sessions"),
        ("cline", "linux", {"CLINE_DIR": "/c"}, "/c/data/tasks"),
        (
            "roo_code",
            "win32",
            _ROAMING,
            "C:/Users/ada/AppData/Roaming/Code/User/globalStorage/rooveterinaryinc.roo-cline/tasks",
        ),
        ("continue", "darwin", {}, "/Users/ada/.continue/sessions"),
        ("qwen_code", "win32", {}, "C:/Users/ada/.qwen/projects"),
        ("qwen_code", "linux", {"QWEN_RUNTIME_DIR": "/q"}, "/q/projects"),
        ("copilot_cli", "linux", {"COPILOT_HOME": "/c"}, "/c/session-state"),
        ("cursor", "darwin", {}, "/Users/ada/.cursor/projects"),
        ("pi", "linux", {}, "/home/ada/.omp/agent/sessions"),
        ("pi", "linux", {"PI_CODING_AGENT_DIR": "/p"}, "/p/sessions"),
        ("vibe", "linux", {"VIBE_HOME": "~/v"}, "/home/ada/v/logs/session"),
        ("kimi_cli", "linux", {"KIMI_SHARE_DIR": "/k"}, "/k/sessions"),
        ("gptme", "linux", {}, "/home/ada/.local/share/gptme/logs"),
        ("gptme", "linux", {"XDG_DATA_HOME": "/x"}, "/x/gptme/logs"),
        ("gptme", "linux", {"GPTME_LOGS_HOME": "/l", "XDG_DATA_HOME": "/x"}, "/l"),
        ("gptme", "darwin", {}, "/Users/ada/Library/Application Support/gptme/logs"),
        ("gptme", "win32", {}, "C:/Users/ada/AppData/Local/gptme/gptme/logs"),
    ],
)
def test_places_follow_from_the_system_and_each_tools_own_variables(
    source: str, platform: str, environ: dict[str, str], expected: str
) -> None:
    """On all three, told on any of them."""
    assert expected in _places(source, platform, environ)


@pytest.mark.parametrize("source", _NEVER)
def test_what_lies_anywhere_is_read_by_path_alone(source: str) -> None:
    """A format without a usual place is never looked for."""
    assert _places(source, "linux", {}) == []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without any assistant."""
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    for variable in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return place


def _ingest(home: Path, store: MemoryStore) -> Ingest:
    return Ingest(store=store, state_dir=home / "state", owner_id=OWNER, machine="m")


@pytest.mark.parametrize("source", ["chat_log", "chat_dataset"])
async def test_a_format_of_many_programs_takes_nothing_from_an_assistants_folder(
    home: Path, source: str
) -> None:
    """The same file is read where it is given by path, and skipped where assistants write."""
    (example,) = built_in(source)
    inside, outside = home / ".claude/projects/p/a.jsonl", home / "chats/a.jsonl"
    for path in (inside, outside):
        path.parent.mkdir(parents=True)
        path.write_bytes(example.whole)
    store = MemoryStore()
    async with _ingest(home, store) as ingest:
        summary = await ingest.backfill([inside.parent, outside.parent])
    assert [skip.path for skip in summary.skips] == [str(inside)]
    assert {row.source for row in store.conversations.values()} == {source}


async def test_an_assistant_that_is_first_used_later_is_picked_up(home: Path) -> None:
    """Without paths every assistant's place is waited for, also beside one that is there."""
    (home / ".codex/sessions").mkdir(parents=True)
    store = MemoryStore()
    async with _ingest(home, store) as ingest:
        task = asyncio.create_task(ingest.run())
        await until(lambda: ingest.health()["watcher"] == "ok")
        folder = home / ".claude/projects/-garden"
        folder.mkdir(parents=True)
        (folder / "s.jsonl").write_bytes(claude_line("hello"))
        await until(lambda: any(row.text == "hello" for row in store.messages.values()))
        assert ingest.health()["watcher"] == "ok"
        task.cancel()
        await asyncio.wait({task})

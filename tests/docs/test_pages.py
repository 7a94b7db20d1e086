"""The pages are true as far as reading can tell: what they name exists, what exists they name."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

import conv_realtime
from conv_realtime import testing
from conv_realtime.cli import main
from conv_realtime.cli.doorstep import HEAD_SECONDS, MAX_WAITING
from conv_realtime.core.envelope import MAX_FRAME_BYTES
from conv_realtime.core.requests import (
    MAX_REQUEST_BYTES,
    MAX_SNAPSHOT_MESSAGES,
    snapshot_messages,
)
from conv_realtime.core.selection import MAX_EXCLUDED
from conv_realtime.edges.formats import known_formats
from conv_realtime.relay.dialogue import FRAMES_AT_ONCE, FRAMES_PER_SECOND
from conv_realtime.relay.hub import ANSWER_BYTES, HANG_UP_SECONDS
from conv_realtime.relay.laggards import STALL_SECONDS
from tests.bench import __main__ as _suite  # importing it adds every benchmark
from tests.bench.harness import BENCHMARKS
from tests.docs.knobs import command, variables
from tests.docs.pages import PAGES, ROOT, all_blocks, anchors, blocks, commands, prose, table
from tests.project import PREFIX

PACKAGE = ROOT / "conv_realtime"
ARCHITECTURE = "conv_realtime/README.md"
PROTOCOL = "conv_realtime/relay/protocol/README.md"
COMPARISON = "tests/comparison/README.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CHECKED = {
    "": "trees and lists of names",
    "bash": "test_shell.py", "sh": "test_shell.py",
    "python": "test_blocks.py", "javascript": "test_blocks.py", "js": "test_blocks.py",
    "sql": "test_blocks.py", "toml": "test_blocks.py", "json": "test_blocks.py",
    "ini": "test_operations.py", "dockerfile": "test_operations.py", "mermaid": "below",
}  # fmt: skip
"""Which blocks there may be, and who tries them."""

TESTS = sorted(
    {found for text in PAGES.values() for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)}
)
RUNS = [
    (module, re.findall(r"--[\w-]+", options))
    for text in PAGES.values()
    for module, options in re.findall(r"python -m ((?:tests|conv_realtime)[\w.]*)([^#&`\n]*)", text)
]
"""What is run by `python -m`, with the options that are shown."""

TESTS_OWN = set(re.findall(r"CONV_REALTIME_TEST_\w+", "".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("**/*.py"))
))  # fmt: skip
TESTS_OWN |= {
    PREFIX + name for name in ("URL", "PUBLISHABLE_KEY", "SECRET_KEY", "DB_URL", "JWT_SECRET")
}
"""Variables that the tests read."""

OTHER_PROGRAMS = {"export", "supabase", "pg_dump", "psql", "npm"}


@pytest.mark.parametrize("page", PAGES)
def test_the_links_lead_somewhere(page: str) -> None:
    """To a file of this repository, and to a heading that it has."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if heading:
            assert heading in anchors(str(target.relative_to(ROOT))), link


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_are_of_kinds_that_are_tried(page: str) -> None:
    """A block in another language would be tried by nobody."""
    fences = re.findall(r"^ *```(.*)$", PAGES[page], re.M)
    assert len(fences) % 2 == 0
    assert set(fences[::2]) <= set(CHECKED)
    assert set(fences[1::2]) <= {""}


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_a_named_test_exists(file: str, name: str) -> None:
    """Renamed or removed, and the page would promise what nobody holds."""
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assigned = {
        target.id
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert name in {node.name for node in module.body if isinstance(node, kinds)} | assigned


@pytest.mark.parametrize("folder", [page for page in PAGES if page.startswith("conv_realtime/")])
def test_a_folders_page_names_what_is_in_it(folder: str) -> None:
    """Each module and each folder: whoever comes for the first time finds their way."""
    here = (ROOT / folder).parent
    if here.name in ("formats", "sql", "protocol", "cli"):
        return  # for who uses them: these name sources, migrations, frames, commands
    modules = {path.stem for path in here.glob("*.py")} - {"__init__", "__main__"}
    modules |= {path.parent.name for path in here.glob("*/*.py")} - {"__pycache__"}
    named = set(re.findall(r"(\w+)(?:\.py\b|/)", PAGES[folder])) | anchors(folder)
    assert modules <= named, sorted(modules - named)


def test_the_folders_of_tests_are_in_their_table() -> None:
    """A folder that it does not name holds nobody knows what."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("*.py"))}
    assert folders <= {name.strip("/") for name in table("tests/README.md", "| where | holds |")}


def test_every_benchmark_is_in_the_table() -> None:
    """And none that has gone."""
    rows = table("tests/bench/README.md", "| name | asks |")
    assert _suite.MODULES
    assert {name for cell in rows for name in re.findall(r"\w+", cell)} == set(BENCHMARKS)


@pytest.mark.parametrize("page", PAGES)
def test_a_file_that_is_named_exists(page: str) -> None:
    """With a folder before it: from the root, the package, the tests, or where the page is."""
    named = re.findall(r"`((?:[\w-]+/)+[\w.-]+\.(?:py|js|ts|sql|json))\b", PAGES[page])
    for path in named:
        if path.startswith("supabase/"):  # of a state directory
            continue
        roots = (ROOT, PACKAGE, ROOT / "tests", (ROOT / page).parent)
        assert any((root / path).exists() for root in roots), path


# How it is built ---------------------------------------------------------------------------


def test_the_picture_shows_what_there_is() -> None:
    """Every file and folder that it names exists, and every node is part of an arrow."""
    (picture,) = blocks(ARCHITECTURE, "mermaid")
    paths = set(re.findall(r"\b(?:core|edges|viewer|relay|ingest)/\w+(?:\.\w+)?|\w+\.py", picture))
    assert len(paths) > 12
    for path in paths:
        places = [PACKAGE / path, PACKAGE / f"{path}.py"]
        places += [PACKAGE / river / path for river in ("ingest", "relay")]
        assert any(place.exists() for place in places), path
    nodes = set(re.findall(r"\b(\w+)\[", picture)) - {"ingest", "relay"}
    arrow = r'(?:-->|-- ".*?" -->|-\. ".*?" \.->)'
    ends = re.findall(rf"(\w+)(?:\[.*?\])? {arrow} (\w+)", picture)
    assert nodes <= {node for pair in ends for node in pair}


def test_the_layers_are_those_that_the_linter_holds() -> None:
    """From above to below, as in pyproject.toml."""
    (layers,) = [one for one in blocks(ARCHITECTURE, "") if one.startswith("cli\n")]
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    held = next(one["layers"] for one in contracts if one["type"] == "layers")
    assert layers.splitlines() == [layer.replace("conv_realtime.", "") for layer in held]


def test_every_part_of_the_package_is_in_its_table() -> None:
    """A folder or module that it does not name has no place."""
    named = " ".join(table(ARCHITECTURE, "| part |"))
    for path in PACKAGE.iterdir():
        if path.name not in ("__pycache__", "__init__.py", "__main__.py", "py.typed", "README.md"):
            assert f"{path.name}{'/' if path.is_dir() else ''}" in named, path.name


# What is imported --------------------------------------------------------------------------


def test_every_public_name_is_in_a_table() -> None:
    """And none that is not exported."""
    rows = table(ARCHITECTURE, "| name | what").values()
    named = {name for cells in rows for name in _quoted(cells[0])}
    assert named == set(conv_realtime.__all__)
    for name in testing.__all__:
        assert re.search(rf"\b{name}\b", PAGES["conv_realtime/testing/README.md"]), name


@pytest.mark.parametrize("name", ["Bridge", "Ingest", "Relay", "ConnectionManager"])
def test_what_a_class_offers_is_in_its_row(name: str) -> None:
    """Every public method and property."""
    (row,) = (cells[1] for cells in table(ARCHITECTURE, "| name | what").values()
              if cells[0] == f"`{name}`")  # fmt: skip
    public = {member for member in dir(getattr(conv_realtime, name)) if member[0] != "_"}
    assert public <= set(_quoted(row))


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_the_limits_are_those_of_the_code() -> None:
    """Of the protocol, and of whoever waits at the door."""
    limits = prose(PROTOCOL).partition("## Limits")[2].partition("\n## ")[0]
    for said in (
        f"{MAX_REQUEST_BYTES // 1024} KiB (1009)",
        f"{FRAMES_AT_ONCE:,.0f} frames at once and {FRAMES_PER_SECOND:.0f} a second",
        f"{MAX_FRAME_BYTES // 1024} KB; a message loses",
        f"{snapshot_messages(True)} messages of each",
        f"at most {MAX_SNAPSHOT_MESSAGES:,}",
        f"{ANSWER_BYTES // 1024} KB of answers",
        f"{STALL_SECONDS:.0f} seconds is closed with 1013",
        f"cut {HANG_UP_SECONDS:.0f} seconds later",
        f"at most {MAX_EXCLUDED:,} ids",
    ):
        assert said in limits, said
    door = (
        f"{HEAD_SECONDS:.0f} seconds and let the longest waiting go where more than {MAX_WAITING}"
    )
    assert door in prose("conv_realtime/edges/README.md")


# Examples and alternatives -----------------------------------------------------------------


def test_every_example_is_in_the_readme() -> None:
    """With a link to where it is, or to a file in it."""
    links = re.findall(r"\]\((examples/[^)]+)\)", PAGES["README.md"])
    links += re.findall(
        r"\]\(\.\./\.\./(examples/[^)]+)\)", PAGES["conv_realtime/testing/README.md"]
    )
    for path in (ROOT / "examples").iterdir():
        if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__"):
            name = f"examples/{path.name}"
            assert any(link == name or link.startswith(f"{name}/") for link in links), name


def test_the_comparison_claims_what_is_held() -> None:
    """Both tables have the same features and the same word for here; a yes has a test."""
    here = table(COMPARISON, "| feature | here | held by |")
    beside = table(COMPARISON, "| feature | here | av |")
    assert list(here) == list(beside)
    for feature, (_, claim, tests) in here.items():
        assert re.match(r"`tests/[\w/]+\.py::\w+`", tests), feature
        said = beside[feature][1]
        assert claim == said or re.match(rf"{re.escape(said)}[:,] ", claim), feature
    assert len({len(row) for row in beside.values()}) == 1


def test_the_assistants_that_are_compared_are_those_that_are_read() -> None:
    """So many are watched, so many kinds of files are read by their path."""
    claim = table(COMPARISON, "| feature | here | held by |")["several agents"][1]
    watched = len(table("README.md", "| assistant |"))
    by_path = len(table("README.md", "| what | `source` | a conversation"))
    assert claim == f"{watched}, and {by_path} kinds of files by path"


def test_the_changelog_has_the_form_that_it_names() -> None:
    """Keep a Changelog's, and why contracts were made more exact; versions agree."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = PROJECT["project"]["version"]
    assert conv_realtime.__version__ == version
    first, *released = re.findall(r"^## (.+)$", text, re.M)
    assert first == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", one) for one in released)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Decided"}
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        found = re.findall(r"^### (.+)$", section, re.M)
        assert set(found) <= kinds and len(found) == len(set(found))


def test_every_format_is_in_the_tables() -> None:
    """By its `source`: where it lies or what it is, and what it states."""
    sources = {one.source for one in known_formats()}
    shown = [row[1] for row in table("README.md", "| assistant |").values()]
    shown += [row[1] for row in table("README.md", "| what | `source` | a conversation").values()]
    assert {cell.strip("`") for cell in shown} == sources
    states = " ".join(table("conv_realtime/core/formats/README.md", "| `source` |"))
    assert set(re.findall(r"\w+", states)) == sources


# Commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", sorted({module for module, _ in RUNS}))
def test_a_module_that_is_run_is_there(module: str) -> None:
    """`python -m` finds it, and its --help knows each option that is shown."""
    assert find_spec(module) is not None
    shown = {option for run, options in RUNS if run == module for option in options}
    if not shown:
        return
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert shown <= set(re.findall(r"--[\w-]+", done.stdout))


def test_every_shell_line_is_known() -> None:
    """It runs something that a test looks at, and installs extras that there are."""
    for page, block in all_blocks("bash", "sh"):
        for line in commands(block):
            words = shlex.split(line, comments=True)
            words = words[next(i for i, word in enumerate(words) if "=" not in word) :]
            program = Path(words[0]).name
            ours = ("conv-realtime", "pip", "python", "python3", "pytest")
            assert program in {*ours, *OTHER_PROGRAMS}, f"{page}: {line}"
    extras = PROJECT["project"]["optional-dependencies"]
    named = re.findall(r"(?:conv_realtime|'\.|-e \.)\[([\w,]+)\]", "".join(PAGES.values()))
    assert len(named) >= 4
    assert {extra for some in named for extra in some.split(",")} <= set(extras)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_variable_that_is_named_exists(page: str) -> None:
    """In prose as in blocks: `conv-realtime COMMAND --option`, and what the environment may say."""
    known = {name for name in main.list_commands(click.Context(main))}
    for name, rest in re.findall(r"conv-realtime ([a-z]+)\b([^`\n#]*)", PAGES[page]):
        assert name in known, name
        options = {
            flag for one in command(name).params for flag in (*one.opts, *one.secondary_opts)
        }
        assert set(re.findall(r"(?<!\S)--[\w-]+", rest)) <= options, (name, rest)
    named = set(re.findall(r"\b(?:CONV_REALTIME|SUPABASE)_[A-Z0-9_]+\b", PAGES[page]))
    read = variables() | {"SUPABASE_DB_URL"}  # as the Supabase CLI's own functions call it
    for name in named - read:
        assert name.startswith("CONV_REALTIME_TEST_"), name
        assert name in TESTS_OWN, name


def test_every_variable_that_is_read_is_named() -> None:
    """Those of settings are in their table, those of options in --help; here are the others."""
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.glob("**/*.py"))
    named = set(re.findall(r'"(CONV_REALTIME_[A-Z_]+[A-Z])"', code))
    assert "CONV_REALTIME_PG_BIN" in named
    for name in named:
        assert any(name in text for text in PAGES.values()), name


def test_every_marker_of_pytest_exists() -> None:
    """Those that a page runs by `-m`."""
    shown = re.findall(r"pytest -m (\w+)", "".join(PAGES.values()))
    markers = {one.partition(":")[0] for one in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    assert shown and set(shown) <= markers

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

from conv_realtime.cli import main
from tests.docs.knobs import command, variables
from tests.docs.pages import PAGES, ROOT, all_blocks, anchors, blocks, commands, prose
from tests.project import PREFIX

PACKAGE = ROOT / "conv_realtime"
ARCHITECTURE = "conv_realtime/README.md"
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
FOLDERS = [
    page
    for page in PAGES
    # The others are for who uses them: they name sources, migrations, frames, commands.
    if page.startswith("conv_realtime/") and not re.search(r"/(formats|sql|protocol|cli)/", page)
]
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


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folders_page_names_what_is_in_it(folder: str) -> None:
    """Each module and each folder: whoever comes for the first time finds their way."""
    here = (ROOT / folder).parent
    modules = {path.stem for path in here.glob("*.py")} - {"__init__", "__main__"}
    modules |= {path.parent.name for path in here.glob("*/*.py")} - {"__pycache__"}
    named = set(re.findall(r"(\w+)(?:\.py\b|/)", PAGES[folder])) | anchors(folder)
    assert modules <= named, sorted(modules - named)


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

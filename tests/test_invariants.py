"""The page of invariants names tests that exist, and code that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "conv_realtime" / "README.md").read_text(encoding="utf-8")
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]


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


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split("\n")[0])
def test_each_invariant_has_code_and_tests(section: str) -> None:
    """What is kept by nothing, or held by nothing, is a wish."""
    kept = re.search(r"^\* Kept by (.+)\.$", section, flags=re.MULTILINE)
    assert kept is not None
    for place in re.findall(r"`([^`]+)`", kept[1]):
        assert list((ROOT / "conv_realtime").glob(place.replace("…", "*"))), place
    assert re.search(r"`tests/", section)

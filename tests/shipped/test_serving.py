"""The JavaScript clients as `up` serves them, and as a package."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from conv_realtime import viewer
from tests.shipped.declarations import MODULES, ROOT, VIEWER

PAGE = ("list", "talk", "tools", "markdown", "dom")
PACKAGE = json.loads((VIEWER / "package.json").read_text())


async def get(path: str) -> httpx.Response:
    """Ask the viewer's routes for a file, from another origin."""
    transport = httpx.ASGITransport(Starlette(routes=viewer.routes()))
    headers = {"origin": "http://localhost:5173"}
    async with httpx.AsyncClient(transport=transport, base_url="http://up") as client:
        return await client.get(path, headers=headers)


@pytest.mark.parametrize("name", [f"{module}.js" for module in MODULES])
async def test_a_module_can_be_imported_by_any_page(name: str) -> None:
    """It is JavaScript, nothing else may be made of it, and other origins may read it."""
    answer = await get(f"/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.text == (VIEWER / name).read_text()


@pytest.mark.parametrize("path", ["/", "/viewer.js", "/talk.js", "/viewer.css"])
async def test_the_page_is_for_its_own_origin(path: str) -> None:
    """Nobody else's page needs to read it."""
    answer = await get(path)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_what_a_module_imports_is_served_and_packaged() -> None:
    """Every import names a file of ours; there are no dependencies."""
    imported = {
        name
        for module in (*MODULES, "viewer", *PAGE)
        for name in re.findall(r'^import .* from "(.*)";', _text(f"{module}.js"), re.MULTILINE)
    }
    assert {name.removeprefix("./") for name in imported} <= {f"{m}.js" for m in (*MODULES, *PAGE)}
    expected = {f"{module}{end}" for module in MODULES for end in (".js", ".d.ts")}
    assert set(PACKAGE["files"]) == {*expected, "types.d.ts", "database.d.ts"}
    assert "dependencies" not in PACKAGE


def test_the_package_has_the_version_of_the_library() -> None:
    """They are released together."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert PACKAGE["version"] == project["version"]


def _text(name: str) -> str:
    return Path(VIEWER, name).read_text()

"""The page for whoever runs it: its unit and container are ones, its tables complete."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from conv_realtime import Settings, testing
from conv_realtime.cli.ending import STOP_SECONDS
from conv_realtime.edges.metrics import Metrics
from conv_realtime.testing.plugin import pytest_addoption
from tests.docs import options
from tests.docs.knobs import command, parse, variables
from tests.docs.pages import blocks, table

PAGE = "conv_realtime/cli/README.md"


def test_the_service_is_one(tmp_path: Path) -> None:
    """systemd can read it, and starts a command that there is, which a setting does not loop."""
    (block,) = blocks(PAGE, "ini")
    unit = configparser.RawConfigParser(strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block)
    program, name, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/conv-realtime")
    parse(name, arguments)
    assert float(unit["Service"]["TimeoutStopSec"]) > STOP_SECONDS
    assert unit["Service"]["RestartPreventExitStatus"] == str(click.UsageError.exit_code)
    if (analyze := shutil.which("systemd-analyze")) is not None:
        file = tmp_path / "conv-realtime.service"
        file.write_text(block.replace(program, sys.executable))
        done = subprocess.run(
            [analyze, "verify", "--user", str(file)],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert file.name not in done.stderr, done.stderr


def test_the_container_runs_a_command_that_there_is() -> None:
    """Its instructions are Docker's, its variables ours, and it holds no secret."""
    (block,) = blocks(PAGE, "dockerfile")
    lines = [line.split(maxsplit=1) for line in block.splitlines()]
    known = {"FROM", "COPY", "RUN", "USER", "ENV", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert {word for word, _ in lines} == known
    said = {word: rest for word, rest in lines}
    given = dict(pair.split("=", 1) for pair in said["ENV"].split())
    assert set(given) <= variables()
    assert not any(word in block for word in ("KEY=", "TOKEN=", "SECRET="))
    program, name, *arguments = json.loads(said["CMD"])
    assert program == "conv-realtime"
    parse(name, arguments)
    port = next(one for one in command(name).params if one.name == "port")
    assert said["EXPOSE"] == str(port.default)
    python, _, code = json.loads(said["HEALTHCHECK"].removeprefix("CMD "))
    compile(code, python, "exec")
    assert f":{port.default}{Settings.model_fields['health_path'].default}" in code


def test_the_settings_of_pytest_are_those_of_the_plugin() -> None:
    """The block for pytest.ini names nothing else."""
    (block,) = blocks("conv_realtime/testing/README.md", "ini")
    shown = configparser.ConfigParser()
    shown.read_string(block)
    parser = pytest.Parser(_ispytest=True)
    pytest_addoption(parser)
    assert set(shown["pytest"]) <= set(parser._inidict)


def test_the_table_of_options_is_the_current_one() -> None:
    """Whoever changes an option writes it anew."""
    text = options.PAGE.read_text(encoding="utf-8")
    assert options.page(text) == text, "python -m tests.docs.options"
    assert len(table(PAGE, "| option | variable | of |")) > 25


async def test_every_metric_is_in_the_table() -> None:
    """By the name that Prometheus stores it under, with its labels; and none that is not there."""
    async with testing.bridge(metrics_path="/metrics") as bridge:
        metrics = bridge.bridge._metrics
        assert isinstance(metrics, Metrics)
        metrics.read(2, ["not JSON"])
        metrics.stored(None, {"github-token": 1})
        text = metrics.page()[0].decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    labels = set(re.findall(r"^conv_realtime_\w+\{(\w+)=", text, re.M)) - {"le"}
    rows = table(PAGE, "| metric |")
    assert set(rows) == {name for name in kinds if not name.endswith("_created")}
    for name, (_, counts, _) in rows.items():
        assert ("histogram" in counts) == (kinds[name] == "histogram")
    assert labels == set(re.findall(r"by `(\w+)`", " ".join(row[1] for row in rows.values())))


async def test_every_field_of_healthz_is_in_the_table() -> None:
    """What it says always, and what it says when something is wrong."""
    async with testing.bridge() as bridge:
        _, body = bridge.bridge.health()
    shown = {name for cell in table(PAGE, "| in `/healthz` |") for name in cell.split("`, `")}
    sometimes = {"feed.last_error", "feed.unreadable"}
    assert shown == set(_fields(body)) | sometimes


def _fields(body: dict[str, Any]) -> list[str]:
    """Return the names in it, those of an ingest and a feed with whose they are."""
    return [
        f"{name}.{inner}" if name in ("feed", "ingest") else name
        for name, value in body.items()
        for inner in (value if name in ("feed", "ingest") else ["-"])
    ]

"""The dated report of a run against somebody's own Supabase: printed, and written to a file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from conv_realtime.sql import latest_version
from tests.project import SupabaseProject

LEFT_OUT = "left out"  # a property of a test that asked less than it does at the local Supabase
PATH_VARIABLE = "CONV_REALTIME_TEST_REPORT"
_JS = Path(__file__).parent / "js" / "node_modules"
_OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed")
_NAMES = {"skipped": "not applicable", "error": "failed in preparing"}


class Report:
    """Collects what happened; a pytest plugin of such runs alone.

    Args:
        project: the Supabase under test.
    """

    def __init__(self, project: SupabaseProject) -> None:
        self._project = project
        self._started = datetime.now(UTC)
        self._versions: dict[str, str] = {}

    def ready(self) -> None:
        """Asks the servers for their versions, while there is something to ask."""
        self._versions = self._project.versions()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Prints the report and writes it."""
        text = "\n".join(self._lines(terminalreporter.stats)) + "\n"
        path = Path(os.environ.get(PATH_VARIABLE) or "supabase-report.md").resolve()
        path.write_text(text, encoding="utf-8")
        terminalreporter.section("report")
        terminalreporter.write(text)
        terminalreporter.write_line(f"written to {path}")

    def _lines(self, stats: dict[str, list[pytest.TestReport]]) -> Iterator[str]:
        took = (datetime.now(UTC) - self._started).total_seconds()
        yield f"# conv_realtime's tests at {self._project.host}"
        yield ""
        yield f"{self._started:%Y-%m-%d %H:%M} UTC, {took:.0f} s."
        yield f"The schema, version {latest_version()}, {self._project.schema}."
        users = "tokens of its own" if self._project.jwt_secret else "the auth admin API"
        yield f"Users: {users}. Rows of the run's users were removed."
        yield ""
        for name, told in {**self._versions, "Realtime": "does not say", **_clients()}.items():
            yield f"* {name}: {told}"
        yield ""
        yield from _table(stats)
        for outcome in ("failed", "error"):
            for one in stats.get(outcome, []):
                yield f"* **{_NAMES.get(outcome, outcome)}** `{one.nodeid}`: {_reason(one)}"
        passed = stats.get("passed", [])
        left_out = Counter(
            told for one in passed for key, told in one.user_properties if key == LEFT_OUT
        )
        for what, count in left_out.most_common():
            yield f"* left out of {count} that passed: {what}"
        reasons = Counter(_reason(one) for one in stats.get("skipped", []))
        for reason, count in reasons.most_common():
            yield f"* {count} not applicable: {reason}"


def _table(stats: dict[str, list[pytest.TestReport]]) -> Iterator[str]:
    """Lists, for each file, how its tests ended."""
    counted: dict[str, Counter[str]] = {}
    for outcome in _OUTCOMES:
        for one in stats.get(outcome, []):
            file = one.nodeid.partition("::")[0]
            counted.setdefault(file, Counter())[outcome] += 1
    shown = [name for name in _OUTCOMES if stats.get(name)] or ["passed"]
    yield _row("tests", (_NAMES.get(name, name) for name in shown))
    yield _row("---", ("---:" for _ in shown))
    for file, counts in sorted(counted.items()):
        yield _row(file, (str(counts[name]) for name in shown))
    total = sum(counted.values(), Counter[str]())
    yield _row("**all**", (f"**{total[name]}**" for name in shown))
    yield ""


def _row(first: str, others: Iterable[str]) -> str:
    return f"| {' | '.join((first, *others))} |"


def _reason(report: pytest.TestReport) -> str:
    """Gives the last line of what a test says of its end, without a path."""
    told = report.longrepr
    if isinstance(told, tuple):
        return re.sub(r"^Skipped: (not applicable: )?", "", told[2])
    crash = getattr(told, "reprcrash", None)
    text = crash.message if crash is not None else str(told)
    return text.splitlines()[0][:200] if text else "no message"


def _clients() -> dict[str, str]:
    found = {name: version(name) for name in ("conv_realtime", "supabase", "realtime")}
    package = _JS / "@supabase" / "supabase-js" / "package.json"
    if package.exists():
        found["supabase-js"] = json.loads(package.read_text())["version"]
    if node := shutil.which("node"):
        told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
        found["Node.js"] = told.stdout.strip()
    return found

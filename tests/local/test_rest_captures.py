"""The Data API answers as a real PostgREST 14 answered the same requests.

The captures lie beside the project (`../shared/captures`), not in it, so that test is defined only
where they are; what may differ stands in `rest_replay`.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.local.rest_replay import CAPTURES, RECORDED, UNSENT, Outcome, replayed, stale

README = Path(__file__).parents[2] / "conv_realtime" / "local" / "README.md"


def test_the_readme_lists_the_recorded_differences() -> None:
    """Readers see the same reasons as the replay."""
    table = README.read_text().partition("| request | reason |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| (`.+`) \| (.+?) \|$", table, re.MULTILINE)
    rows = {label: why for labels, why in listed for label in re.findall("`(.+?)`", labels)}
    wanted = {label or "(no label)": why for label, why in (RECORDED | UNSENT).items()}
    assert rows == wanted


if CAPTURES.is_dir():

    async def test_answers_equal_those_of_a_real_postgrest() -> None:
        """Status, headers and body are the same, request by request, but for named exceptions."""
        outcomes: list[Outcome] = [outcome async for outcome in replayed()]
        assert [str(one) for one in outcomes if one.word == "DIFFERENT"] == []
        assert stale(outcomes) == []

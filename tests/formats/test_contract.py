"""Every format that comes with the package holds to the contract that is asked of users' own."""

from __future__ import annotations

import pytest

from conv_realtime.core.format import Format
from conv_realtime.core.formats import BUILT_IN
from conv_realtime.testing import FormatContract
from conv_realtime.testing.formats.contract import CHECKS
from conv_realtime.testing.formats.examples import built_in
from tests.opencode import states


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("form", BUILT_IN, ids=lambda form: type(form).__name__)
def test_a_built_in_format_holds(form: Format, check: str) -> None:
    """Each has examples, and passes every check."""
    examples = {one.name: one.states for one in built_in(form.source) if form.is_named(one.name)}
    if form.source == "opencode":
        examples = {f"{n}/opencode.db": tuple(states(n)) for n in (1, 2)}
    values = {"format": form, "examples": examples}
    getattr(type("Contract", (FormatContract,), values)(), check)()

"""`serve` against what is no project, or not ready to be read."""

from __future__ import annotations

import pytest

from conv_realtime.local import LocalSupabase
from tests.cli.conftest import Runner


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"SUPABASE_SECRET_KEY": "sb_secret_wrong"}, "SUPABASE_SECRET_KEY"),
        ({"SUPABASE_URL": "no url"}, "SUPABASE_URL"),
    ],
)
def test_serve_names_the_setting_that_is_refused(
    conv_realtime: Runner, local_supabase: LocalSupabase, settings: dict[str, str], named: str
) -> None:
    """At once and in one line, as `up` does, and not after a minute of trying."""
    environment = {
        "SUPABASE_URL": local_supabase.url,
        "SUPABASE_SECRET_KEY": local_supabase.secret_key,
        **settings,
    }
    command = conv_realtime("serve", "--port", "0", **environment)
    assert command.process.wait(15) == 2
    assert command.rest() == []
    assert command.stderr().splitlines()[-1].startswith(f"Error: {named}")
    assert "Traceback" not in command.stderr()

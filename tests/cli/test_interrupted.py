"""A command with an end of its own that does not get there."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Runner
from tests.ingest.lines import SESSION, user


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_a_backfill_that_was_ended_has_not_succeeded(
    conv_realtime: Runner, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """A script that goes on after it must learn that not everything was sent."""
    (tmp_path / f"{SESSION}.jsonl").write_bytes(user("q"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        command = conv_realtime(
            *("backfill", tmp_path, "--json"),
            SUPABASE_URL=f"http://127.0.0.1:{silent.getsockname()[1]}",
            SUPABASE_SECRET_KEY="sb_secret_x",
            CONV_REALTIME_OWNER_ID=SESSION,
        )
        connection, _ = silent.accept()
        with connection:
            assert command.end(number) == code
    assert command.rest() == []

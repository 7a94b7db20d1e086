"""Commands in an environment that was made for other programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Runner
from tests.ingest.lines import SESSION, user


def test_proxies_and_settings_of_other_databases_do_not_reach_the_local_supabase(
    conv_realtime: Runner, home: Path
) -> None:
    """Behind a proxy of a company nothing was stored; with a service of libpq nothing started."""
    (home / f"{SESSION}.jsonl").write_bytes(user("q"))
    command = conv_realtime(
        *("backfill", home, "--json"),
        CONV_REALTIME_LOCAL_PORT="0",
        HTTP_PROXY="http://127.0.0.1:9",
        ALL_PROXY="http://127.0.0.1:9",
        PGSERVICE="theirs",
        PGOPTIONS="-c default_transaction_read_only=on",
    )
    assert command.json()["messages"] == 1
    assert command.process.wait(30) == 0, command.stderr()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "odd://127.0.0.1:9"), ("SSL_CERT_FILE", "/nowhere"), ("no_proxy", "[::")],
)
def test_proxies_and_certificates_that_cannot_be_used_are_named(
    conv_realtime: Runner, variable: str, value: str
) -> None:
    """In one line, as any setting; httpx raises whatever comes, and names no variable."""
    command = conv_realtime("up", "--port", "0", "--local-port", "0", **{variable: value})
    assert command.process.wait(30) == 2
    told = command.stderr().splitlines()
    assert len(told) == 1 and variable in told[0] and "cannot be used" in told[0], told

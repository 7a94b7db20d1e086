"""When a client comes back, by how its connections ended; time is a parameter."""

from __future__ import annotations

import random

import pytest

from conv_realtime.core.pauses import Returns


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)


def test_pauses_double_until_a_connection_was_of_use() -> None:
    """Also where it was opened and never used; ten seconds of use begin anew."""
    returns = Returns(0.25, 15.0)
    assert [returns.after(None, 0.0) for _ in range(7)] == [0.25, 0.5, 1, 2, 4, 8, 15]
    assert returns.after(1006, 10.0) == 15
    assert returns.after(1006, 10.1) == 0.25


@pytest.mark.parametrize("code", [1008, 1013])
def test_who_was_too_much_waits_longer_and_longer(code: int) -> None:
    """The first pause is twenty times as long; to be too slow takes seconds each time, so that a
    connection has to last a minute."""
    returns = Returns(0.25, 60.0)
    assert [returns.after(code, 20.0) for _ in range(5)] == [5, 10, 20, 40, 60]
    assert returns.after(code, 61.0) == 5
    assert returns.after(None, 0.0) == 0.5
    assert returns.after(code, 0.0) == 20


def test_a_server_that_says_when_is_come_back_to_then() -> None:
    """Not before, within reason; what came to nothing before still counts after it."""
    returns = Returns(0.25, 15.0)
    assert returns.after(1012, 0.0, asked=2.0) == 3.0
    assert returns.after(1012, 0.0, asked=900.0) == 22.5
    assert returns.after(None, 0.0) == 1.0


def test_crowds_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is between half of it and all of it."""
    monkeypatch.undo()
    pauses = [Returns(8.0, 60.0).after(None, 0.0) for _ in range(1000)]
    assert 4.0 <= min(pauses) < 4.5 < 7.5 < max(pauses) <= 8.0

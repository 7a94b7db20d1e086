"""The Realtime server behaves as a real Realtime 2.122 did, and what says so can be trusted.

The captures lie beside the project (`../shared/captures`), not in it, so the test that plays them
is defined only where they are. The others make up captures of their own.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.local.realtime.frames import Version
from tests.local.replay.__main__ import main
from tests.local.replay.captures import CAPTURES, Line, read
from tests.local.replay.compare import Gap, gaps
from tests.local.replay.differences import DIFFERENCES, Difference, judge, told
from tests.local.replay.flows import Flow, before, sql
from tests.local.replay.player import Player
from tests.local.replay.project import token
from tests.local.replay.run import Played, chosen, play_all

README = Path(__file__).parents[2] / "conv_realtime" / "local" / "README.md"
FLOW = (
    ("out", "http", f"GET /socket/websocket?apikey={token('anon')}&vsn=1.0.0"),
    ("in", "http", "HTTP/1.1 101 Switching Protocols"),
    ("out", "text", '{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}'),
    (
        "in",
        "text",
        '{"ref":"1","event":"phx_reply","payload":{"status":"ok","response":{}},"topic":"phoenix"}',
    ),
    ("out", "close", ""),
    ("in", "close", ""),
)
"""A flow that our server plays as it is written."""


def capture(folder: Path, name: str, lines: tuple[tuple[str, str, str], ...] = FLOW) -> Path:
    """Writes a capture with one connection."""
    path = folder / f"{name}.jsonl"
    rows = [
        {"conn": 1, "dir": side, "op": op, "frame": frame}
        | ({"code": 1000} if op == "close" else {})
        for side, op, frame in lines
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def received(*frames: Any) -> list[Line]:
    """What a server sent on a connection of protocol 2.0.0."""
    return [Line(1, True, "text", json.dumps(frame)) for frame in frames]


def change(row: int, time: str, n: str = "1.50", binding: int = 7) -> list[Any]:
    """A frame of postgres_changes."""
    data = {"table": "todos", "record": {"id": row, "n": float(n)}, "commit_timestamp": time}
    frame = [None, None, "realtime:t", "postgres_changes", {"ids": [binding], "data": data}]
    return json.loads(json.dumps(frame).replace(str(float(n)), n))  # type: ignore[no-any-return]


def reply(ref: str, topic: str = "realtime:t") -> list[Any]:
    """An answer to a frame."""
    return ["1", ref, topic, "phx_reply", {"status": "ok", "response": {}}]


def said(event: str) -> list[Any]:
    """A broadcast."""
    return [None, None, "realtime:t", "broadcast", {"event": event}]


PUSH = [Line(1, False, "text", '["1","9","realtime:t","broadcast",{}]')]


@pytest.mark.parametrize(
    ("real", "ours"),
    [
        (
            [change(5, "2026-11-22T23:57:39.882Z", binding=68883293)],
            [change(1, "2027-01-02T03:04:05.678Z")],
        ),
        ([said("a"), reply("9")], [reply("9"), said("a")]),
        ([reply("1"), reply("2", "realtime:u")], [reply("2", "realtime:u"), reply("1")]),
        ([["1", "2", "t", "e", {"a": 1, "b": 2}]], [["1", "2", "t", "e", {"b": 2, "a": 1}]]),
        (
            [said("Token has expired 95391963 seconds ago")],
            [said("Token has expired 0 seconds ago")],
        ),
        (
            [said("ce04e8b6-ec1d-441c-a970-232d4ceb3b70")],
            [said("9f2c8051-26e7-43d1-aeac-f1df7957dba0")],
        ),
    ],
    ids=["numbers and times", "ack", "topics", "order of keys", "expiry", "random ids"],
)
def test_what_follows_from_the_run_is_no_difference(real: list[Any], ours: list[Any]) -> None:
    """Ids, times, and the order where there is none."""
    assert not gaps(received(*real), received(*ours), PUSH, Version.V2)


@pytest.mark.parametrize(
    ("real", "ours", "expected"),
    [
        ([said("a")], [], 1),
        ([], [said("a")], 1),
        ([said("a"), said("b")], [said("b"), said("a")], 2),
        ([reply("1"), said("a")], [said("a"), reply("1")], 2),
        ([said("11111111-1111-1111-1111-111111111111")],
         [said("22222222-2222-2222-2222-222222222222")], 1),
        ([change(5, "2026-11-22T23:57:39.882Z")], [change(5, "2026-11-22T23:57:39Z")], 1),
        ([change(5, "2026-11-22T23:57:39.882Z"), change(5, "2026-11-22T23:57:39.882Z")],
         [change(1, "2026-11-22T23:57:39.882Z"), change(2, "2026-11-22T23:57:39.882Z")], 1),
    ],
    ids=["missing", "too many", "order", "answer after fan-out", "who", "precision", "other row"],
)  # fmt: skip
def test_what_does_not_is_one(real: list[Any], ours: list[Any], expected: int) -> None:
    """Also a frame at the wrong place, and another row."""
    assert len(gaps(received(*real), received(*ours), PUSH, Version.V2)) == expected


def test_a_number_keeps_its_form() -> None:
    """1.50 is not 1.5: numeric columns are sent exactly."""
    real = [Line(1, True, "text", '[null,null,"t","e",{"n":1.50}]')]
    ours = [Line(1, True, "text", '[null,null,"t","e",{"n":1.5}]')]
    assert len(gaps(real, ours, (), Version.V2)) == 1


def test_a_frame_that_is_none_is_a_difference() -> None:
    """Nothing that a server sends makes the comparison end early."""
    real = received(said("a"))
    for data in ("no json", "{}", "[1]", b"\x04\xff"):
        op = "text" if isinstance(data, str) else "binary"
        assert len(gaps(real, [*real, Line(1, True, op, data)], (), Version.V2)) == 1


async def test_a_step_that_fits_no_line_is_an_error(tmp_path: Path) -> None:
    """Else a flow would seem equal although half of it was never done."""
    made = read(capture(tmp_path, "v1_made"))
    flow = Flow((before("no such frame", sql("select 1")),))
    nowhere: Any = None
    with pytest.raises(LookupError, match="no line of v1_made has"):
        await Player(nowhere, made, flow, complete=True).play()


def test_only_what_is_recorded_is_excused_and_only_while_it_comes() -> None:
    """Both a new difference and one that no longer comes are told."""
    recorded = [Difference("f", ("late",), (), "slow"), Difference("f", (), ("loud",), "noise")]
    verdict = judge([Gap("it is late", None), Gap("other", None)], recorded)
    assert (verdict.recorded, verdict.new, verdict.stale) == (
        (recorded[0],),
        (Gap("other", None),),
        (recorded[1],),
    )
    assert not verdict.good
    assert judge([Gap("late", "loud")], recorded).good


def test_the_command_plays_captures_and_fails_where_one_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over a local Supabase of its own; a made-up flow and one with another answer in it."""
    capture(tmp_path, "v1_true")
    assert main(["--captures", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "v1_true: equal\n"
    wrong = [(side, op, frame.replace('"ok"', '"error"')) for side, op, frame in FLOW]
    capture(tmp_path, "v1_false", tuple(wrong))
    assert main(["--captures", str(tmp_path), "true", "v1_false"]) == 1
    shown = capsys.readouterr().out
    assert "v1_true: equal" in shown
    assert "v1_false: DIFFERENT" in shown
    assert '"status": "error"' in shown


def test_without_captures_or_such_a_flow_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A message and exit code 2, as for other wrong arguments."""
    for arguments, message in (
        (["--captures", str(tmp_path / "none")], "there are no captures in"),
        (["--captures", str(tmp_path), "nonsense"], "no capture of nonsense in"),
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        assert message in capsys.readouterr().err


def test_a_capture_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Both directions, in order; the flow is the name without the protocol."""
    made = read(capture(tmp_path, "v1_made"))
    assert (made.name, made.flow) == ("v1_made", "made")
    assert [line.text.partition(" ")[0] for line in made.lines] == [side for side, *_ in FLOW]
    assert made.connections() == {1: Version.V1}


def test_the_readme_has_the_recorded_differences_as_its_table() -> None:
    """Line by line: nobody needs to read code to know how the local server differs."""
    lines = README.read_text().splitlines()
    rows = lines[lines.index("| flow | real | ours | why |") + 2 :]
    table = [
        [cell.strip().replace("`", "") for cell in row.split("|")[1:-1]]
        for row in itertools.takewhile(lambda row: row.startswith("|"), rows)
    ]
    recorded = [[one.flow, told(one.real), told(one.ours), one.why] for one in DIFFERENCES]
    assert table == [[cell.replace("`", "") for cell in row] for row in recorded]


if CAPTURES.is_dir():

    async def test_our_server_behaves_as_the_real_one_did() -> None:
        """Every captured flow, in both protocols, but for the recorded differences."""
        played: list[Played] = []
        await play_all(chosen(CAPTURES, ()), played.append)
        different = [str(one) for one in played if not one.good]
        assert not different, "\n".join(different)

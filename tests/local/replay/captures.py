"""Reads captures: one JSON object a line, the connections of a flow mixed as time mixed them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import parse_qs

from conv_realtime.local.realtime.frames import Version

CAPTURES = Path(__file__).parents[4] / "shared" / "captures" / "realtime-2.122"
SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
"""Signs the tokens in the captures."""


@dataclass(frozen=True)
class Line:
    """One line: something that passed between a client and the server.

    Attributes:
        conn: the connection's number.
        incoming: whether the server sent it.
        op: ``http``, ``text``, ``binary`` or ``close``.
        data: the frame; the request's or the status line; empty for a close.
        code: of a close.
        cut_from: the length of a frame that is cut in the capture; 0 where it is whole.
    """

    conn: int
    incoming: bool
    op: str
    data: str | bytes
    code: int | None = None
    cut_from: int = 0

    @cached_property
    def text(self) -> str:
        """The line as patterns see it: direction, kind, content."""
        data = self.data if isinstance(self.data, str) else self.data.decode("latin-1")
        return f"{'in' if self.incoming else 'out'} {self.op} {data}"

    @property
    def length(self) -> int:
        """How long the frame was."""
        return self.cut_from or len(self.data)

    @property
    def query(self) -> str:
        """The query string of a request for a connection."""
        assert isinstance(self.data, str)
        return self.data.partition("?")[2]

    @property
    def version(self) -> Version:
        """The protocol that a request for a connection asks for; 1.0.0 where it is refused."""
        return Version.of(parse_qs(self.query).get("vsn", [""])[0]) or Version.V1


@dataclass(frozen=True)
class Capture:
    """One captured flow; `name` is its file's, such as ``v1_broadcast``."""

    name: str
    lines: tuple[Line, ...]

    @property
    def flow(self) -> str:
        """The name without the protocol's version."""
        return re.sub(r"^v\d_", "", self.name)

    def connections(self) -> dict[int, Version]:
        """Gives each connection's protocol, in the order of their opening."""
        return {line.conn: line.version for line in self.lines if line.text.startswith("out http")}

    def received(self, conn: int) -> list[Line]:
        """Gives what the server sent on one connection."""
        return [line for line in self.lines if line.conn == conn and line.incoming]

    def tokens(self) -> list[str]:
        """Gives the tokens that the client used where it asked for changes of tables, if it did."""
        sent = [line.text for line in self.lines if not line.incoming]
        if not any('"postgres_changes": [{' in text.replace(":[{", ": [{") for text in sent):
            return []
        return sorted({token for text in sent for token in re.findall(r"eyJ[\w.-]+", text)})

    def sent(self, conn: int) -> list[Line]:
        """Gives what the client sent on one connection."""
        return [line for line in self.lines if line.conn == conn and not line.incoming]


def read(path: Path) -> Capture:
    """Reads one capture."""
    return Capture(path.stem, tuple(_lines(path.read_text())))


def names(folder: Path) -> list[str]:
    """Gives the names of the captures in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.jsonl"))


def _lines(text: str) -> Iterator[Line]:
    for row in map(json.loads, text.splitlines()):
        if row["op"] == "eof":
            continue
        data = base64.b64decode(row["frame"]) if row["op"] == "binary" else row["frame"]
        yield Line(
            row["conn"],
            row["dir"] == "in",
            row["op"],
            data,
            row.get("code"),
            row.get("truncated_from", 0),
        )

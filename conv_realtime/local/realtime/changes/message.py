"""The payload of a change, as JSON text: the same fields in the same order as on a real server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import orjson

from conv_realtime.local.realtime.changes.tables import Table, View
from conv_realtime.local.realtime.changes.values import NULL, converter
from conv_realtime.local.wal.pgoutput import Change, Row

MAX_RECORD_BYTES = 1 << 20
SMALL_VALUE_BYTES = 64

NO_KEY = "Error 400: Bad Request, no primary key"
UNAUTHORIZED = "Error 401: Unauthorized"
TOO_LARGE = "Error 413: Payload Too Large"

_COLUMN_OVERHEAD = 60  # of wal2json around a column's name, type and value


class RowChange:
    """One changed row of a table, written as JSON once for everybody who gets it.

    Args:
        table: its table as it looks now.
        change: what happened.
        written: values that PostgreSQL had to write, by old or new and column name.
        committed_at: seconds since 1970.
    """

    __slots__ = ("_committed", "_data", "_json", "_written", "change", "new", "old", "table")

    def __init__(
        self,
        table: Table,
        change: Change,
        written: Mapping[tuple[bool, str], str],
        committed_at: float,
    ) -> None:
        self.table = table
        self.change = change
        self.old: Row = change.old
        if change.kind == "UPDATE" and not change.old:  # the stream leaves out a key that stays
            keys = (column.name for column in change.relation.columns if column.is_key)
            self.old = {name: change.new[name] for name in keys if name in change.new}
        # Under replica identity full an unchanged large value is in the old row alone.
        whole = change.kind == "UPDATE" and change.relation.replica_identity == "f"
        self.new: Row = {**change.old, **change.new} if whole else change.new
        self._written = written
        self._committed = committed_at
        self._json: tuple[dict[str, str], dict[str, str], bool] | None = None
        self._data: dict[tuple[str, tuple[str, ...] | None], str] = {}

    @property
    def kind(self) -> str:
        """INSERT, UPDATE or DELETE."""
        return self.change.kind

    def failure(self, role: str) -> str | None:
        """Says why a role cannot be told the row, if so; it is told that there was one."""
        if self.kind == "DELETE":
            return None
        if not self.table.key:
            return NO_KEY
        return None if self.table.may_read_key(role) else UNAUTHORIZED

    def data(self, role: str, select: tuple[str, ...] | None) -> str:
        """Gives the ``data`` of the payload for a role and its choice of columns."""
        written = self._data.get((role, select))
        if written is None:
            written = self._data[role, select] = self._write(role, select)
        return written

    def _write(self, role: str, select: tuple[str, ...] | None) -> str:
        failure = self.failure(role)
        if failure is not None:
            return self._assembled("{}", "{}", "[]", failure, None)
        new, old, large = self._values()
        view = self.table.view(role, select)
        keys = {column.name for column in self.table.key}
        hides_old = self.kind == "DELETE" and self.table.secured
        return self._assembled(
            _record(view, new, large),
            _record(view, {name: old[name] for name in old if name in keys}, large)
            if hides_old
            else _record(view, old, large),
            view.columns,
            TOO_LARGE if large else None,
            self._committed,
        )

    def _assembled(
        self, record: str, old: str, columns: str, error: str | None, committed: float | None
    ) -> str:
        relation = self.change.relation
        time = "null" if committed is None else f'"{_instant(committed)}"'
        parts = [f'"table":{_text(relation.name)}', f'"type":"{self.kind}"']
        if self.kind != "DELETE":
            parts.append(f'"record":{record}')
        parts += [
            f'"columns":{columns}',
            f'"errors":{NULL if error is None else _list(error)}',
            f'"schema":{_text(relation.schema)}',
            f'"commit_timestamp":{time}',
        ]
        if self.kind != "INSERT":
            parts.append(f'"old_record":{old}')
        return f"{{{','.join(parts)}}}"

    def _values(self) -> tuple[dict[str, str], dict[str, str], bool]:
        if self._json is None:
            new = self._written_out(self.new, old=False)
            old = self._written_out(self.old, old=True)
            self._json = new, old, _is_large(new, old)
        return self._json

    def _written_out(self, row: Row, *, old: bool) -> dict[str, str]:
        columns = self.table.by_name
        written: dict[str, str] = {}
        for name, text in row.items():
            if name not in columns:
                continue  # dropped meanwhile
            write: Callable[[str], str] = converter(columns[name]) or _text
            known = self._written.get((old, name)) or self._written.get((not old, name))
            written[name] = NULL if text is None else known or write(text)
        return written


def payload(data: str, ids: Sequence[int]) -> bytes:
    """Writes the whole payload."""
    return f'{{"data":{data},"ids":[{",".join(map(str, ids))}]}}'.encode()


def _record(view: View, values: Mapping[str, str], large: bool) -> str:
    shown = (
        f"{key}{values[name]}"
        for name, key in view.names
        if name in values and not (large and _is_left_out(values[name]))
    )
    return f"{{{', '.join(shown)}}}"


def _is_left_out(value: str) -> bool:
    return value == NULL or len(value.encode()) > SMALL_VALUE_BYTES


def _is_large(*rows: Mapping[str, str]) -> bool:
    """Whether wal2json would need more for a change than a real server carries."""
    if sum(len(value) for row in rows for value in row.values()) < MAX_RECORD_BYTES // 4:
        return False
    return (
        sum(
            len(value.encode()) + len(name) + _COLUMN_OVERHEAD
            for row in rows
            for name, value in row.items()
        )
        > MAX_RECORD_BYTES
    )


def _instant(seconds: float) -> str:
    """Gives a time in UTC with milliseconds, cut and not rounded, as ``to_char`` does."""
    milliseconds = round(seconds * 1_000_000) // 1000
    whole = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"


def _text(value: str) -> str:
    return orjson.dumps(value).decode()


def _list(value: str) -> str:
    return f"[{_text(value)}]"

"""The database as the Data API uses it: one transaction a request, as somebody, with headers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

Row = dict[str, Any]
Connection = psycopg.Connection[Row]


class Request:
    """One open transaction: what a user, or a key, does with one request or several."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def rows(self, query: str, *values: Any) -> list[Row]:
        """The rows that a query gives, none for a statement without a result."""
        cursor = self.connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *values: Any) -> Any:
        """The first column of the first row."""
        return next(iter(self.rows(query, *values)[0].values()))

    def upsert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Upserts as PostgREST does without `on_conflict`; gives the number of rows written."""
        columns = list(rows[0])
        statement = sql.SQL(
            "insert into public.{table} ({names})"
            " select {names} from jsonb_populate_recordset(null::public.{table}, %s)"
            " on conflict (id, owner_id) do update set {changes}"
        ).format(
            table=sql.Identifier(table),
            names=sql.SQL(", ").join(map(sql.Identifier, columns)),
            changes=sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in columns
            ),
        )
        return self.connection.execute(statement, (Jsonb(list(rows)),)).rowcount

    def changes(self, cursor: str | None, max_rows: int = 500) -> dict[str, Any]:
        """The answer of `changes_since`."""
        answer = self.value("select public.changes_since(%s, %s)", cursor, max_rows)
        return cast(dict[str, Any], answer)


@dataclass(frozen=True)
class Database:
    """Opens requests at a database that has our schema.

    Attributes:
        idle: connections between two requests; None to connect for each. Far away, connecting takes
            much longer than asking.
    """

    dsn: str
    idle: list[Connection] | None = None

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """One transaction, committed at the end unless something was raised."""
        connection = self.idle.pop() if self.idle else self._connect()
        try:
            yield connection
            connection.commit()
        except BaseException:
            if not connection.closed:
                connection.rollback()
            raise
        finally:
            if self.idle is None or connection.closed:
                connection.close()
            else:
                self.idle.append(connection)

    def _connect(self) -> Connection:
        # Nothing is prepared by itself: a pooler in between could not keep it.
        return psycopg.connect(self.dsn, row_factory=dict_row, prepare_threshold=None)

    def close(self) -> None:
        """Closes what is idle."""
        while self.idle:
            self.idle.pop().close()

    @contextmanager
    def request(
        self, role: str, claims: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Iterator[Request]:
        """One transaction as `role`, committed at the end unless something was raised."""
        with self._connected() as connection:
            request = Request(connection)
            settings = {"request.jwt.claims": claims, "request.headers": headers or {}}
            for name, value in settings.items():
                request.rows("select set_config(%s, %s, true)", name, json.dumps(dict(value)))
            connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
            yield request

    @contextmanager
    def user(self, user: str, headers: Mapping[str, str] | None = None) -> Iterator[Request]:
        """A signed-in user."""
        claims = {"sub": user, "role": "authenticated"}
        with self.request("authenticated", claims, headers) as request:
            yield request

    @contextmanager
    def service(self, headers: Mapping[str, str] | None = None) -> Iterator[Request]:
        """The secret key."""
        with self.request("service_role", {"role": "service_role"}, headers) as request:
            yield request

    @contextmanager
    def anonymous(self) -> Iterator[Request]:
        """The publishable key alone; whatever it manages to do is taken back."""
        with self.request("anon", {"role": "anon"}) as request:
            yield request
            request.connection.rollback()

    @contextmanager
    def postgres(self) -> Iterator[Request]:
        """The role that applies migrations; row security does not bind it."""
        with self._connected() as connection:
            yield Request(connection)

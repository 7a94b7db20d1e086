"""Names for SQL that is sent with parameters, where psycopg would take a ``%`` for one."""

from __future__ import annotations

from psycopg import sql


def name(*parts: str) -> sql.SQL:
    """Quotes the name of a table or column, qualified by the parts before the last."""
    return quoted(sql.Identifier(*parts).as_string())


def quoted(text: str) -> sql.SQL:
    """Takes over what is quoted already, such as `TableColumn.type_name`."""
    return sql.SQL(text.replace("%", "%%"))

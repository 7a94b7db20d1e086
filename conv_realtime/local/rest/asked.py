"""One request of the Data API, read as far as every method needs it, and run as its caller."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from conv_realtime.local.rest.caller import Caller
from conv_realtime.local.rest.catalog import Catalog, Table
from conv_realtime.local.rest.clauses import Statement
from conv_realtime.local.rest.database import Database, Result
from conv_realtime.local.rest.errors import ApiError
from conv_realtime.local.rest.prefer import Preferences, parse_accept, parse_prefer
from conv_realtime.local.rest.query import Query, parse_query

PREFIX = "/rest/v1"


class Asked:
    """One request, read as far as every method needs it."""

    def __init__(self, request: Request, caller: Caller, database: Database, body: bytes) -> None:
        self.method = request.method
        self.name: str = request.path_params.get("name", "")
        self.path = request.url.path.removeprefix(PREFIX)
        self.pairs = parse_qsl(request.url.query, keep_blank_values=True)
        self.prefer: Preferences = parse_prefer(request.headers.getlist("prefer"))
        self.media = parse_accept(request.headers.get("accept"))
        self.range = request.headers.get("range")
        self.content_type = request.headers.get("content-type")
        self.body = body
        self.profile = request.headers.get("accept-profile") or request.headers.get(
            "content-profile"
        )
        self._request = request
        self._caller = caller
        self._database = database
        if self.profile not in (None, "public"):
            raise ApiError(
                406,
                "PGRST106",
                f"Invalid schema: {self.profile}",
                hint="Only the following schemas are exposed: public",
            )

    @property
    def catalog(self) -> Catalog:
        """The schema as last read."""
        return self._database.catalog

    @property
    def table(self) -> Table:
        """The table that the path names."""
        return self.catalog.table(self.name)

    def query(self, arguments: frozenset[str] = frozenset()) -> Query:
        """Reads the query string; `arguments` are a function's, not filters."""
        return parse_query(self.pairs, arguments)

    async def run(self, statement: Statement, *, read_only: bool = False) -> Result:
        """Runs the statement under the caller's role; a result that breaks a wish rolls back."""
        settings = self._caller.settings(self._request, self.path)
        settings += self.catalog.role_settings.get(self._caller.role, ())
        if self.prefer.timezone:
            settings.append(("timezone", self.prefer.timezone))
        return await self._database.run(settings, statement, read_only=read_only, check=self._check)

    def _check(self, result: Result) -> None:
        writes = self.method not in ("GET", "HEAD") and not self.path.startswith("/rpc/")
        if self.media.single and not (writes and self.prefer.returning != "representation"):
            _check_single(result)
        if self.method in ("PATCH", "DELETE"):
            _check_affected(result, self.prefer)
        if self.method == "PUT" and result.page != 1:
            message = "Payload values do not match URL in primary key column(s)"
            raise ApiError(400, "PGRST115", message)


def _check_single(result: Result) -> None:
    """Refuses a result that is not exactly one row.

    Raises:
        ApiError: `PGRST116`.
    """
    if result.page != 1:
        raise ApiError(
            406,
            "PGRST116",
            "Cannot coerce the result to a single JSON object",
            details=f"The result contains {result.page} rows",
        )


def _check_affected(result: Result, prefer: Preferences) -> None:
    """Refuses a change of more rows than the client allowed.

    Raises:
        ApiError: `PGRST124`.
    """
    if prefer.handling != "strict" or prefer.max_affected is None:
        return
    if result.page > prefer.max_affected:
        raise ApiError(
            400,
            "PGRST124",
            "Query result exceeds max-affected preference constraint",
            details=f"The query affects {result.page} rows",
        )

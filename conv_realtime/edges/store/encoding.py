"""Rows as the body of a request, encoded by orjson.

supabase-py has the standard library do it, which takes several times as long, on the event loop:
two megabytes of rows held up everybody for twenty milliseconds.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import httpx
import orjson


def encoded(request: Any, rows: Any) -> Any:
    """Return a request of supabase-py with its body, `rows`, encoded where orjson can do that.

    It cannot where an integer has more than 64 bits.
    """
    try:
        return _Encoded(request, orjson.dumps(rows, option=orjson.OPT_UTC_Z))
    except orjson.JSONEncodeError:
        return request


class _Encoded:
    """A request of supabase-py that sends these bytes, and in all else is the one given."""

    def __init__(self, request: Any, body: bytes) -> None:
        self._request = request
        self._body = body

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def send(self, additional_headers: httpx.Headers) -> Awaitable[httpx.Response]:
        """Send it, with the headers of this attempt."""
        request = self._request
        headers = additional_headers
        headers.update(request.headers)
        headers["Content-Type"] = "application/json"
        auth = request.auth
        if auth is None and "Authorization" not in headers:
            auth = request.session.auth
        answer: Awaitable[httpx.Response] = request.session.request(
            request.http_method,
            str(request.path),
            content=self._body,
            params=request.params,
            headers=headers,
            auth=auth,
        )
        return answer

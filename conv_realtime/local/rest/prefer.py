"""What a request's headers ask for: `Prefer`, `Range` and `Accept`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from conv_realtime.local.rest.errors import ApiError

_VALUES = {
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "missing": ("default", "null"),
    "return": ("representation", "minimal", "headers-only"),
    "count": ("exact", "planned", "estimated"),
    "handling": ("strict", "lenient"),
    "tx": ("commit", "rollback"),
}
_FREE = ("timezone", "max-affected")

OBJECT = "application/vnd.pgrst.object+json"
JSON = "application/json"
CSV = "text/csv"
_ARRAY = "application/vnd.pgrst.array+json"


@dataclass(frozen=True, slots=True)
class Preferences:
    """The accepted preferences; an absent one is None. `count` of any kind is counted exactly."""

    resolution: str | None = None
    missing: str | None = None
    returning: str | None = None
    count: str | None = None
    handling: str | None = None
    timezone: str | None = None
    max_affected: int | None = None


def parse_prefer(headers: Iterable[str]) -> Preferences:
    """Reads the `Prefer` headers; of a repeated preference the first counts.

    Raises:
        ApiError: `PGRST122`, something unknown under `handling=strict`.
    """
    found: dict[str, str] = {}
    unknown: list[str] = []
    for part in (part.strip() for header in headers for part in header.split(",")):
        name, _, value = part.partition("=")
        if value in _VALUES.get(name, ()) or (name in _FREE and value):
            found.setdefault(name, value)
        elif part:
            unknown.append(part)
    if unknown and found.get("handling") == "strict":
        raise ApiError(
            400,
            "PGRST122",
            "Invalid preferences given with handling=strict",
            details=f"Invalid preferences: {', '.join(unknown)}",
        )
    limit = found.get("max-affected", "")
    return Preferences(
        resolution=found.get("resolution"),
        missing=found.get("missing"),
        returning=found.get("return"),
        count=found.get("count"),
        handling=found.get("handling"),
        timezone=found.get("timezone"),
        max_affected=int(limit) if re.fullmatch("[0-9]{1,18}", limit) else None,
    )


def applied(preferences: Preferences, *names: str) -> str | None:
    """Gives the `Preference-Applied` header that tells the named preferences, None for none."""
    values = {
        "resolution": preferences.resolution,
        "missing": preferences.missing,
        "return": preferences.returning,
        "count": preferences.count,
        "handling": preferences.handling,
        "timezone": preferences.timezone,
        "max-affected": preferences.max_affected,
    }
    told = [f"{name}={value}" for name, value in values.items() if name in names and value]
    return ", ".join(told) or None


def parse_range(header: str | None) -> tuple[int, int | None]:
    """Reads `Range: 0-24`; gives offset and row count (None: all). Nonsense is ignored."""
    matched = re.fullmatch(r"(?:items=)?([0-9]{1,18})-([0-9]{0,18})", header or "")
    if matched is None:
        return 0, None
    first = int(matched[1])
    if not matched[2]:
        return first, None
    return first, max(int(matched[2]) - first + 1, 0)


@dataclass(frozen=True, slots=True)
class Media:
    """How rows are written: as a JSON array, as one JSON object, or as CSV.

    Attributes:
        kind: the media type.
        single: exactly one row is wanted.
        stripped: keys whose value is null are left out.
    """

    kind: str = JSON
    single: bool = False
    stripped: bool = False

    @property
    def csv(self) -> bool:
        """Whether it is CSV."""
        return self.kind == CSV


ARRAY = Media()


def parse_accept(accept: str | None) -> Media:
    """Reads `Accept`: the first type that can be given.

    Raises:
        ApiError: `PGRST107`, it accepts nothing that can be given.
    """
    types = [part.strip() for part in (accept or "*/*").split(",")]
    for text in types:
        kind, _, parameters = (part.strip() for part in text.partition(";"))
        stripped = "nulls=stripped" in parameters.replace(" ", "").split(";")
        suffix = ";nulls=stripped" if stripped else ""
        if kind == OBJECT:
            return Media(kind + suffix, single=True, stripped=stripped)
        if kind == _ARRAY:
            return Media(kind + suffix if stripped else JSON, stripped=stripped)
        if kind == CSV:
            return Media(CSV)
        if kind in (JSON, "*/*", "application/*", ""):
            return ARRAY
    named = ", ".join(text.partition(";")[0].strip() for text in types)
    raise ApiError(406, "PGRST107", f"None of these media types are available: {named}")

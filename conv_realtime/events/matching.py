"""Whether what an event carries has given values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import TypeAdapter

from conv_realtime.events.data import Data
from conv_realtime.events.frames import DATA_TYPES, DataEvent

_KINDS: Mapping[str, Any] = {
    kind.model_fields["type"].default: kind for kind in get_args(DataEvent)
}


def values_of(type: str, match: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return values as the data of events of `type` would have them, such as an id for its text.

    Raises:
        ValueError: there is no such event type, or no event of it could ever match.
    """
    if type not in DATA_TYPES:
        raise ValueError(f"no such event type: {type!r}; there are {', '.join(DATA_TYPES)}")
    fields = _KINDS[type].model_fields["data"].annotation.model_fields
    for name in match.keys() - fields.keys():
        raise ValueError(f"{type} has no {name!r}; there are {', '.join(fields)}")
    return {
        name: TypeAdapter(fields[name].annotation).validate_python(value)
        for name, value in match.items()
    }


def matches(data: Data, values: Mapping[str, Any]) -> bool:
    """Return whether `data` has all these values."""
    return all(getattr(data, name) == value for name, value in values.items())

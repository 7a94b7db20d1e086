"""What a client may ask, beside `ping` and `pong`, whose data is free."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from conv_realtime.events.frames import DATA_TYPES

_TypeName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(DATA_TYPES)})]


def _flag_or_number(asked: object) -> object:
    """Say in one sentence what pydantic would say of each type by itself."""
    if isinstance(asked, bool | int | None):
        return asked
    raise PydanticCustomError("snapshot", "true, false or a number of messages")


class SubscribeRequest(BaseModel):
    """The data of `subscribe`: it replaces the whole filter; an absent key is unrestricted."""

    model_config = ConfigDict(extra="ignore")

    types: list[_TypeName] | None = Field(
        None, description="Absent: all but `file_update`. Empty: no event."
    )
    conversations: list[UUID] | None = Field(None, description="Only these.")
    projects: list[UUID] | None = Field(None, description="Only theirs.")
    since: str | None = Field(None, description="A cursor: what came after it is sent first.")
    snapshot: Annotated[bool | int | None, BeforeValidator(_flag_or_number)] = Field(
        None, description="The last messages of each conversation; `true` is 50, 0 is none of them."
    )


class UnsubscribeRequest(BaseModel):
    """The data of `unsubscribe`: nothing stops data events, ids are excluded."""

    model_config = ConfigDict(extra="ignore")

    types: list[_TypeName] | None = Field(None, description="Not these.")
    conversations: list[UUID] | None = Field(None, description="Not these.")
    projects: list[UUID] | None = Field(None, description="Not theirs.")

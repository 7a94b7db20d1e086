"""From a change to the frame that tells of it: `{"type", "data"}` as UTF-8 JSON.

`Event.to_json()` is the whole frame. What goes out is the same up to `MAX_FRAME_BYTES`; in a longer
one names are cut, and a message loses its `content`, then the end of its `text`, and says
`truncated`.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from conv_realtime.core.selection import Subject
from conv_realtime.events import (
    ConversationData,
    ConversationDeleted,
    ConversationUpdate,
    DataEvent,
    DeletedConversationData,
    DeletedData,
    Event,
    MessageData,
    MessageDeleted,
    MessageUpdate,
    NewConversation,
    NewMessage,
    ProjectData,
    ProjectUpdate,
)
from conv_realtime.models import Change, Conversation, Made, Message, Project

MAX_FRAME_BYTES = 512 * 1024
_TIMESTAMP_BYTES = 32
_NAME_LENGTH = 4000

Stating = ConversationData | MessageData | ProjectData
"""What an event says of a row that stands."""

_Stating = TypeVar("_Stating", bound=Stating)
_Named = TypeVar("_Named", bound=BaseModel)
_Data = TypeVar("_Data", bound=Made)


def subject_of(change: Change, project: UUID | None = None) -> Subject:
    """Return what the event of `change` is about; `project` is where its row does not say it."""
    row = change.row
    if isinstance(row, Message):
        return Subject(_type_of(change), row.owner_id, row.conversation_id, project)
    if isinstance(row, Conversation):
        return Subject(_type_of(change), row.owner_id, row.id, row.project_id or project)
    return Subject("project_update", row.owner_id, None, row.id)


def subject_of_event(event: Event) -> Subject | None:
    """Return what a ready-made event is about; None if it is for every client."""
    data = event.data
    if isinstance(data, ConversationData):
        return Subject(event.type, None, data.id, data.project_id)
    if isinstance(data, MessageData | DeletedData):
        return Subject(event.type, None, data.conversation_id)
    if isinstance(data, DeletedConversationData):
        return Subject(event.type, None, data.id)
    if isinstance(data, ProjectData):
        return Subject(event.type, None, None, data.id)
    return Subject("file_update") if event.type == "file_update" else None


def event_of(change: Change, cursor: str) -> DataEvent:
    """Return the event that tells of `change`."""
    row, name = change.row, _type_of(change)
    if isinstance(row, Project):
        return ProjectUpdate(data=project_data(row, cursor))
    if isinstance(row, Conversation):
        if name == "conversation_deleted":
            gone = DeletedConversationData(id=row.id, revision=row.revision, cursor=cursor)
            return ConversationDeleted(data=gone)
        data = conversation_data(row, cursor)
        return NewConversation(data=data) if change.created else ConversationUpdate(data=data)
    if name == "message_deleted":
        return MessageDeleted(
            data=DeletedData(
                id=row.id,
                conversation_id=row.conversation_id,
                revision=row.revision,
                cursor=cursor,
            )
        )
    message = message_data(row, cursor)
    return NewMessage(data=message) if change.created else MessageUpdate(data=message)


def project_data(row: Project, cursor: str) -> ProjectData:
    """Return what events say of a project."""
    return _data(ProjectData, row, cursor)


def conversation_data(row: Conversation, cursor: str) -> ConversationData:
    """Return what events say of a conversation."""
    return _data(ConversationData, row, cursor)


def message_data(row: Message, cursor: str) -> MessageData:
    """Return what events say of a message, uncut."""
    return _data(MessageData, row, cursor)


def encode(event: Event, max_bytes: int = MAX_FRAME_BYTES) -> bytes:
    """Return the text of the frame, at most about `max_bytes` of UTF-8 if it tells of a row."""
    payload = as_json(event)
    if len(payload) <= max_bytes - _TIMESTAMP_BYTES or not isinstance(event.data, Stating):
        return payload
    data = cut(event.data, max_bytes - _TIMESTAMP_BYTES - 64)
    return as_json(event.model_copy(update={"data": data}))


def cut(data: _Stating, max_bytes: int) -> _Stating:
    """Return `data` in at most `max_bytes` of JSON: no content, then as much text as fits.

    Names are nowhere longer than some thousand characters but where somebody wrote rows by hand.
    """
    data = _with_short_names(data)
    if not isinstance(data, MessageData):
        return data
    left_out: dict[str, Any] = {"content": None, "truncated": True}
    if data.conversation is not None:
        left_out["conversation"] = _with_short_names(data.conversation)
    data = data.model_copy(update=left_out)
    spare = max_bytes - len(as_json(data)) + len(as_json(data.text))
    text = data.text
    while (length := len(as_json(text))) > max(spare, 2):
        # Escapes make characters up to six bytes long, so the share is only a guess.
        text = text[: min(len(text) - 1, len(text) * spare // length)]
    return data if text is data.text else data.model_copy(update={"text": text})


def _with_short_names(data: _Named) -> _Named:
    long = {
        name: value[:_NAME_LENGTH]
        for name, value in data
        if name != "text" and isinstance(value, str) and len(value) > _NAME_LENGTH
    }
    return data.model_copy(update=long) if long else data


def with_timestamp(payload: bytes, at_ms: int) -> bytes:
    """Return the frame in the older form, with a top-level `timestamp` in milliseconds."""
    return b'%b,"timestamp":%d}' % (payload[:-1], at_ms)


def as_json(value: object) -> bytes:
    """Return JSON; half a surrogate pair, which UTF-8 cannot hold, as its escape."""
    try:
        return to_json(value)
    except PydanticSerializationError:
        return json.dumps(to_jsonable_python(value), separators=(",", ":")).encode()


def _type_of(change: Change) -> str:
    row = change.row
    if isinstance(row, Project):
        return "project_update"
    if isinstance(row, Conversation):
        if row.deleted_at is not None:
            return "conversation_deleted"
        return "new_conversation" if change.created else "conversation_update"
    if row.deleted_at is not None:
        return "message_deleted"
    return "new_message" if change.created else "message_update"


def _data(kind: type[_Data], row: Project | Conversation | Message, cursor: str) -> _Data:
    told: dict[str, Any] = {"cursor": cursor, "truncated": False}
    return kind.made(
        {name: told[name] if name in told else getattr(row, name) for name in kind.model_fields}
    )

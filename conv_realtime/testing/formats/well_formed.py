"""What every row holds to: the database takes it, and readers know it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import orjson
from pydantic import ValidationError

from conv_realtime.core.sanitize import MAX_DEPTH, MAX_NAME
from conv_realtime.core.transcript import TITLE_CHARS
from conv_realtime.models import (
    TOKEN_FIELDS,
    Activity,
    Conversation,
    Message,
    Role,
    Status,
    conversation_id,
)
from conv_realtime.testing.formats.reading import MACHINE, OWNER, Stated

_MAX_TOKENS = 10**12
_NAMES = ("session_id", "agent_id", "cwd", "git_branch", "model")
_BLOCKS = {
    None: ("type",),
    "text": ("text",),
    "thinking": ("thinking",),
    "tool_use": ("name", "input"),
    "tool_result": ("tool_use_id", "content"),
}
_ENVELOPE = 3  # a row, its column, and the list that a message's content is


def faults(source: str, stated: Stated) -> Iterator[str]:
    """Yield what is wrong with rows of the format `source`, each as a sentence."""
    for row in stated.conversations.values():
        mine = [m for m in stated.messages.values() if m.conversation_id == row.id]
        where = f"conversation {row.session_id!r}"
        yield from (f"{where}: {fault}" for fault in _of_conversation(source, row, mine))
    for message in stated.messages.values():
        where = f"message at {message.seq}"
        yield from (f"{where}: {fault}" for fault in _of_message(message))
        if message.conversation_id not in stated.conversations:
            yield f"{where}: its conversation is not there"


def _of_conversation(source: str, row: Conversation, messages: list[Message]) -> Iterator[str]:
    yield from _of_row(row)
    if row.source != source:
        yield f"its source is {row.source!r}, not {source!r}"
    if not row.session_id:
        yield "it has no session id"
    expected = conversation_id(OWNER, source, MACHINE, row.session_id, row.agent_id)
    if row.id != expected:
        yield f"its id is not that of session {row.session_id!r}, agent {row.agent_id!r}"
    if row.status not in get_args(Status) or row.activity not in get_args(Activity):
        yield f"its state is {row.status!r}, {row.activity!r}"
    if row.title is not None and (not 0 < len(row.title) <= TITLE_CHARS or "\n" in row.title):
        yield f"its title is no line of at most {TITLE_CHARS} characters: {row.title!r}"
    long = [name for name in _NAMES if len(getattr(row, name) or "") > MAX_NAME]
    if long:
        yield f"longer than {MAX_NAME} characters: {', '.join(long)}"
    yield from _of_sums(row, [message for message in messages if message.deleted_at is None])


def _of_sums(row: Conversation, live: list[Message]) -> Iterator[str]:
    spoken = sum(message.role in ("user", "assistant") for message in live)
    if row.message_count != spoken:
        yield f"message_count is {row.message_count}, and {spoken} of a user or assistant stand"
    for name in TOKEN_FIELDS:
        total = sum((message.usage or {}).get(name, 0) for message in live)
        if getattr(row, name) != total:
            yield f"{name} is {getattr(row, name)}, and its messages' usage adds up to {total}"
    places = Counter(message.seq for message in live)
    twice = [seq for seq, times in places.items() if times > 1]
    if twice:
        yield f"more than one message has the place (seq) {twice[0]}"


def _of_message(row: Message) -> Iterator[str]:
    yield from _of_row(row)
    if row.role not in get_args(Role):
        yield f"its role is {row.role!r}"
    if row.revision < 1 or row.seq < 0:
        yield f"its place and revision are {row.seq} and {row.revision}"
    for name, value in (row.usage or {}).items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if name not in TOKEN_FIELDS or not whole or not 0 <= value <= _MAX_TOKENS:
            yield f"its usage says {name}: {value!r}"
    if not isinstance(row.content, list) or not all(isinstance(b, dict) for b in row.content):
        yield f"its content is no list of blocks: {str(row.content)[:100]}"


def odd_blocks(stated: Stated) -> Iterator[str]:
    """Yield which blocks readers would not know; only a spoilt file may have such."""
    for row in stated.messages.values():
        for block in row.content or ():
            if missing := sorted(
                name for name in _BLOCKS.get(block.get("type"), ()) if name not in block
            ):
                yield f"message at {row.seq}: without {', '.join(missing)}: {str(block)[:100]}"


def _of_row(row: Conversation | Message) -> Iterator[str]:
    """Yield why the database would not take a row, or a reader not know it."""
    try:
        columns = row.to_row()
        text = orjson.dumps(columns).decode()
        type(row).model_validate(columns)
    except (ValueError, TypeError, ValidationError) as error:
        yield f"it is no row: {error}"
        return
    if "\\u0000" in text.replace("\\\\", ""):
        yield "it holds a NUL"
    if _depth(columns) > MAX_DEPTH + _ENVELOPE:
        yield f"it is nested deeper than {MAX_DEPTH}"
    for name in ("created_at", "started_at", "updated_at", "deleted_at"):
        moment = getattr(row, name, None)
        if moment is not None and (moment.tzinfo is None or not 1 < moment.year < 9999):
            yield f"{name} is no time in UTC that a database takes: {moment!r}"


def _depth(value: Any) -> int:
    inner = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    )
    return 1 + max(map(_depth, inner), default=0)

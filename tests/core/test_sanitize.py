"""What must not leave the machine, or cannot be stored."""

from __future__ import annotations

import json
from collections import deque
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_realtime.core.redaction import redactor
from conv_realtime.core.sanitize import MAX_DEPTH, MAX_NAME, Cleaning, Sanitizer
from tests.planted import planted

_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)  # the first search builds an automaton
@given(_json)
def test_every_value_can_be_sent(value: Any) -> None:
    """Whatever a transcript holds, the result is strict JSON in UTF-8 without NUL."""
    clean = Sanitizer().value(value)
    text = json.dumps(clean, allow_nan=False, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text.replace("\\\\", "")


@settings(deadline=None)
@given(_json)
def test_cleaning_twice_is_cleaning_once(value: Any) -> None:
    """A value that was cleaned is left as it is, so re-sending changes no row."""
    once = Sanitizer().value(value)
    assert Sanitizer().value(once) == once


@settings(deadline=None)
@given(_json)
def test_a_value_is_left_as_it_is_where_cleaning_would_change_nothing(value: Any) -> None:
    """Whether it was looked at before or not; also without looking for secrets."""
    for clean in (Sanitizer(), Sanitizer(redactor=redactor("off")), Sanitizer(max_text_bytes=20)):
        cleaned = clean.value(value, Cleaning.ALL)
        assert clean.value(value) == cleaned
        assert clean.value(value, clean.note(value)) == cleaned


_BASE64 = "A" * 400


@pytest.mark.parametrize(
    "value",
    [
        {"key\x00": 1},
        ["lone \ud800"],
        [float("nan")],
        [2**64],
        [-1e301],
        "long " * 10,
        {"media_type": "image/png", "data": _BASE64},
        {"url": f"data:image/png;base64,{_BASE64}"},
        {f"data:image/png;base64,{_BASE64}": 1},
        [[[[["deep"] * 4] * 4] * 4] * 4],
    ],
)
def test_what_cannot_be_stored_as_it_is_is_seen(value: Any) -> None:
    """One thing is enough, however deep it lies."""
    clean = Sanitizer(max_text_bytes=40)
    for wrapped in (value, [{"in": [value]}], {"before": "short", "in": value}):
        assert clean.note(wrapped) is Cleaning.STORING
        assert clean.value(wrapped) == clean.value(wrapped, Cleaning.ALL)


def test_most_values_are_left_as_they_are() -> None:
    """They are the same objects: nothing is copied."""
    value = [{"type": "text", "text": "größer", "count": 12, "cost": 0.5, "none": [None, True]}]
    clean = Sanitizer()
    assert clean.note(value) is Cleaning.NOTHING
    assert clean.value(value) is value


def test_redaction_can_be_turned_off() -> None:
    """Who wants the secrets in their own database says so."""
    for secret in planted(1):
        value = {"text": secret.text}
        assert Sanitizer(redactor=redactor("off")).value(value) == value


def test_nesting_beyond_what_jsonb_takes_is_cut() -> None:
    """A value nested ten thousand deep costs its depths and not the request."""
    deep: Any = "leaf"
    for _ in range(10_000):
        deep = [deep]
    clean = Sanitizer().value(deep)
    depth = 0
    while isinstance(clean, list):
        clean, depth = clean[0], depth + 1
    assert (clean, depth) == ("[nested too deep]", MAX_DEPTH)


def test_secrets_go_from_keys_and_values_alike() -> None:
    """However deep one lies, and whatever it is the key of."""
    for secret in planted(2):
        value = {secret.text: [1, {"deep": [secret.text, "beside it"]}]}
        clean = Sanitizer().value(value)
        assert clean == {secret.redacted: [1, {"deep": [secret.redacted, "beside it"]}]}


class Shouted(str):
    """A text that reads otherwise than what it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return Shouted(self.upper())


class Rows(list[str]):
    """A list of one's own."""


def test_what_json_does_not_have_is_cleaned_as_what_it_has_for_it() -> None:
    """A format of one's own may give it, with secrets."""
    (secret, *_) = planted(1)
    sanitizer = Sanitizer()
    value = {"a": (secret.text, ("\x00",)), "b": MappingProxyType({"c": secret.text}), "d": {1}}
    assert sanitizer.note(value) is Cleaning.ALL
    clean = {"a": [secret.redacted, [""]], "b": {"c": secret.redacted}, "d": "{1}"}
    assert sanitizer.value(value) == clean
    told = {"a": Shouted(secret.text), "b": deque([secret.text]), "c": Rows([secret.text])}
    assert sanitizer.note(told) is Cleaning.ALL
    clean = {"a": secret.redacted, "b": f"deque(['{secret.redacted}'])", "c": [secret.redacted]}
    assert sanitizer.value(told) == clean
    for one in told:
        assert sanitizer.note({one: told[one]}) is Cleaning.ALL
    deep: Any = ()
    for _ in range(2 * MAX_DEPTH):
        deep = (deep,)
    assert "[nested too deep]" in json.dumps(sanitizer.value(deep))


def test_one_that_was_hidden_by_what_cannot_be_stored_is_found() -> None:
    """NUL is taken out first: what is left may be a secret."""
    token = "gh" + "p_" + "a1B2" * 9
    assert Sanitizer().value(["gh\x00" + token[2:]]) == ["[redacted:github-token]"]


def test_a_secret_across_the_end_of_what_is_kept_leaves_no_half() -> None:
    """What is too long is cut after secrets are gone."""
    token = "gh" + "p_" + "a1B2" * 9
    for before in range(MAX_NAME - 40, MAX_NAME + 2, 3):
        assert token[:8] not in Sanitizer().name("/" * before + token)
    for before in range(900, 1030):
        text = Sanitizer(max_text_bytes=1000).text(" " * before + token)
        assert token[:8] not in text and len(text) <= 1000


def test_ids_that_hold_secrets_stay_two() -> None:
    """One marker for both would make one conversation of two."""
    clean = Sanitizer()
    one, other = ("gh" + "p_" + letters * 9 for letters in ("a1B2", "c3D4"))
    assert clean.id(one) != clean.id(other)
    assert clean.id(one) == clean.id(one) and one not in clean.id(one)
    assert clean.id("plain") == "plain"


def test_what_was_found_is_told_once() -> None:
    """Equal secrets are one, different ones of a kind are two; asking empties."""
    clean = Sanitizer()
    one, other = ("gh" + "p_" + letters * 9 for letters in ("a1B2", "c3D4"))
    clean.value({"a": one, "b": [one, other]})
    clean.note([one])
    assert [found.kind for found in clean.take_found()] == ["github-token"] * 2
    assert not clean.take_found()
    assert not clean.note(["nothing in it"]) and not clean.take_found()


@settings(deadline=None)
@given(st.text(st.characters(), max_size=3000), st.integers(100, 2000))
def test_a_long_text_is_cut_with_a_word(text: str, limit: int) -> None:
    """It fits in bytes, says how much there was, and is not cut again."""
    clean = Sanitizer(max_text_bytes=limit)
    once = clean.text(text)
    assert len(once.encode()) <= limit and clean.text(once) == once
    whole = Sanitizer().text(text)
    assert once == whole or f"{len(whole.encode()):,} bytes in all]" in once


def test_images_are_left_out_with_a_word() -> None:
    """Their type and size stay, unless they are asked for; what is short is no image."""
    data = "iVBORw0KGgo" + "A" * 989
    image = {"type": "base64", "media_type": "image/png", "data": data}
    clean = Sanitizer().value([{"type": "image", "source": image}])
    assert clean[0]["source"] == image | {"data": "[left out: image/png, 750 bytes]"}
    url = f"data:image/jpeg;base64,{data}"
    assert Sanitizer().value({"image_url": url}) == {
        "image_url": "[left out: image/jpeg, 750 bytes]"
    }
    inline = {"mimeType": "application/pdf", "data": data}
    assert Sanitizer().value(inline)["data"] == "[left out: application/pdf, 750 bytes]"
    assert Sanitizer(images=True).value([image, url, inline]) == [image, url, inline]
    icon = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    assert Sanitizer().text(icon) == icon

"""What must not leave the machine, or cannot be stored."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.core.sanitize import MAX_DEPTH, Sanitizer

_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_json)
def test_every_value_can_be_sent(value: Any) -> None:
    """Whatever a transcript holds, the result is strict JSON in UTF-8 without NUL."""
    clean = Sanitizer().value(value)
    text = json.dumps(clean, allow_nan=False, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text.replace("\\\\", "")


@given(_json)
def test_cleaning_twice_is_cleaning_once(value: Any) -> None:
    """A value that was cleaned is left as it is, so re-sending changes no row."""
    once = Sanitizer().value(value)
    assert Sanitizer().value(once) == once


# Put together here, so that no scanner takes this file for a leak.
_SECRETS = [
    "sk-" + "ant-api03-" + "aB3_" * 8,
    "sk-" + "proj-" + "aB3x" * 8,
    "gh" + "p_" + "a1B2" * 9,
    "github" + "_pat_" + "a1B2" * 9,
    "AK" + "IA" + "ABCDEFGH12345678",
    "AI" + "za" + "a" * 35,
    "sb" + "p_" + "0a" * 20,
    "sb" + "_secret_" + "aB3" * 10,
    "xox" + "b-" + "1234567890-abcdef",
    "gl" + "pat-" + "a1B2" * 5,
    "np" + "m_" + "a" * 36,
    "hf" + "_" + "a" * 34,
    ".".join(["ey" + "JhbGciOiJIUzI1NiJ9", "ey" + "JzdWIiOiIxMjM0In0", "c2lnbmF0dXJl"]),
    "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA " + "PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", _SECRETS, ids=lambda secret: secret[:8])
@pytest.mark.parametrize("around", ["{}", 'key="{}"', "a {} b", "export X={}\n"])
def test_a_secret_is_replaced_wherever_it_stands(secret: str, around: str) -> None:
    """Keys with known prefixes, tokens and private keys become a marker."""
    clean = Sanitizer().text(around.format(secret))
    assert secret not in clean
    assert "[redacted: " in clean
    assert clean.replace(clean[clean.index("[") : clean.index("]") + 1], "{}") == around


@pytest.mark.parametrize(
    "text",
    [
        "a risk-assessment-of-a-rather-long-name in task-force-one-two-three-four-five",
        "https://example.com/sk-short",
        "eyJ is how a token begins",
        "the PRIVATE KEY of the user",
        "commit 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
    ],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    """Words that only look like the beginning of a key are left alone."""
    assert Sanitizer().text(text) == text


def test_redaction_can_be_turned_off() -> None:
    """Who wants the secrets in their own database says so."""
    assert Sanitizer(redacting=False).text(_SECRETS[0]) == _SECRETS[0]


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


@pytest.mark.parametrize(
    ("before", "secret", "behind"),
    [
        ("postgres://user:", "hunter2" + "pass", "@db.example.com:5432/app"),
        ("redis://:", "p4ss" + "word", "@cache"),
        ("Authorization: Bearer ", "0a1b2c3d" * 4, ""),
        ('{"Authorization": "Basic ', "dXNlcjpw" + "YXNzd29yZA==", '"}'),
        ("aws_secret_access_key = ", "wJalrXUtnFEMI/K7MDENG/" + "a" * 18, ""),
        ('secretAccessKey": "', "wJalrXUtnFEMI/K7MDENG/" + "a" * 18, '"'),
        ("export STRIPE_API_KEY=", "a1B2c3D4" * 2, ""),
        ("DB_PASSWORD='", "correct-horse-1" + "-battery", "'"),
        ("first\\n", "gh" + "p_" + "a1B2" * 9, ""),
        ("?key\\u003d", "sk-" + "ant-api03-" + "aB3_" * 8, ""),
        ("q=%20", "sk-" + "ant-api03-" + "aB3_" * 8, ""),
        ("https://", "hooks.slack.com" + "/services/T0A/B0A/" + "aB3x" * 5, ""),
    ],
)
def test_a_secret_is_known_by_what_stands_before_it(before: str, secret: str, behind: str) -> None:
    """Passwords in URLs, headers and env files go; what names them stays."""
    clean = Sanitizer().text(before + secret + behind)
    assert secret not in clean and "[redacted: " in clean
    assert clean.startswith(before) and clean.endswith(behind)
    assert Sanitizer().text(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "postgres://$USER:$PASSWORD@host, postgres://user:<password>@host, postgres:postgres@db",
        "postgresql://postgres:postgres@localhost:54322",
        "http://localhost:8080/@scope and git@github.com:owner/name",
        "Bearer ${TOKEN} of an authentication-scheme-with-words",
        "MAX_TOKEN=4096 TOKEN=get_token_v2(now) API_KEY=os.environ['KEY_1'] TOKEN=$(cat t1)",
        "CACHE_KEY=v2-build-linux-x64",
    ],
)
def test_placeholders_and_code_are_no_secrets(text: str) -> None:
    """What names a secret without being one is left as it is."""
    assert Sanitizer().text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "eyJ" * 200_000,
        "\\neyJaaaaaaaa" * 50_000,
        "://a:" * 100_000,
        "TOKEN=a" * 100_000,
        "-----BEGIN PRIVATE KEY-----" * 20_000,
    ],
    ids=lambda text: text[:8],
)
def test_hostile_text_costs_its_length(text: str) -> None:
    """No text makes the search begin again at each of its characters: that took minutes."""
    began = time.perf_counter()
    Sanitizer().text(text)
    assert time.perf_counter() - began < 5

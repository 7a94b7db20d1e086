"""Secrets are found by their forms, wherever they stand, in time that grows with the text."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_realtime.core.redaction import PatternError, Redactor, linear, redactor, replacing
from conv_realtime.core.redaction.kinds import DEFAULT
from conv_realtime.core.redaction.linear import Choice
from conv_realtime.core.sanitize import Sanitizer
from tests.planted import planted


def _known() -> Redactor:
    found = redactor()
    return found


_AROUND = [
    "{}", 'key="{}"', "a {} b", "export X={}\n", "first\\n{}", "({})", "x\n{}\ny", "`{}`, and",
    "\x1b[32m{}\x1b[0m", "\x1b[01;31m\x1b[K{}\x1b[m\x1b[K", "\x1b[38:5:9m{}", '"\\u001b[1m{}"',
    "echo '\\e[1m{}'", "echo '\\033[1m{}'", "b'\\x1b[1m{}'", "b'\\x00{}'",
    "?key\\u003d{}", "q=%20{}",
    "schlüssel „{}“", "curl -H 'X: {}' \\",
]  # fmt: skip


@pytest.mark.parametrize("around", _AROUND)
def test_a_secret_of_every_kind_is_replaced_wherever_it_stands(around: str) -> None:
    """By the name of its kind; what stands around it stays, and nothing is left to be found."""
    seen = set()
    for secret in planted(seed=7):
        clean, found = _known().redact(around.format(secret.text))
        assert clean == around.format(secret.redacted)
        assert {one.kind for one in found} == {secret.kind}
        assert _known().redact(clean) == (clean, [])
        seen.add(secret.kind)
    assert seen == {kind.name for kind in DEFAULT}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.text(max_size=40), st.text(max_size=40))
def test_many_secrets_in_one_text_all_go(seed: int, before: str, behind: str) -> None:
    """Each by its own marker, between whatever else there is."""
    chance = random.Random(seed)
    secrets = chance.sample(list(planted(seed)), 4)
    text = " ".join((before, *(secret.text for secret in secrets), behind))
    clean, _ = _known().redact(text)
    for secret in secrets:
        assert all(piece not in clean for piece in secret.secrets)


@pytest.mark.parametrize(
    "text",
    [
        "a risk-assessment-of-a-rather-long-name in task-force-one-two-three-four-five",
        "https://example.com/sk-short",
        "eyJ is how a token begins",
        "the PRIVATE KEY of the user",
        'if "-----BEGIN PRIVATE KEY-----" in text: raise ValueError("not here")',
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "commit 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
        "AKIAIOSFODNN7EXAMPLE and wJalrXUtnFEMI",
        ".sk-folding-cube .sk-cube-grid-with-a-long-class-name { color: red }",
        "toolu_01ABCDEFGHJKLMNPQRSTUVWX msg_01ABCDEFGHJKLMNPQRSTUVWX req_011CPQabcdefghijklmnop",
        "5e551011-0000-4000-8000-000000000001",
        "postgres://$USER:$PASSWORD@host, postgres://user:<password>@host, postgres:postgres@db",
        "postgresql://postgres:postgres@localhost:54322, https://USER:PASSWORD@host/x",
        "http://localhost:8080/@scope and git@github.com:owner/name",
        "http://localhost:3000, http://localhost:3000/me@example.com, or me@example.com",
        "postgres://db:5432/app?user=me@example.com mongodb://a:27017,b:27018/app?x=me@example.com",
        "http://[::1]:8080/me@example.com file://C:/node_modules/@scope http://h:$PORT/me@example.com",
        "https://example.com/a:b/c@d and ssh://git@example.com:owner/name@v1",
        "Private-Lines: 14 of a file that PuTTY-User-Key-File-3 begins",
        "Bearer ${TOKEN} of an authentication-scheme-with-words",
        "MAX_TOKEN=4096 TOKEN=get_token_v2(now) API_KEY=os.environ['KEY_1'] TOKEN=$(cat t1)",
        "CACHE_KEY=v2-build-linux-x64",
        "//registry.npmjs.org/:_authToken=${NPM_TOKEN} :_authToken=process.env.NPM_TOKEN",
        "client-certificate-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t" + "aB3/" * 30,
        "npm_config_registry hf_hub_download pypi-publish fo1_ sl.length dp.pt.x SG.x.y",
        "[redacted:github-token] postgres://user:[redacted:password]@host",
    ],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    """Words, identifiers, placeholders and code that only look like it."""
    assert _known().redact(text) == (text, [])


def test_what_is_looked_for_first_is_in_every_secret() -> None:
    """A kind's anchor is a part of what its pattern begins with: none is passed over for it."""
    anchors = Choice([kind.anchor for kind in DEFAULT])
    for secret in planted(seed=8, each=5):
        among = anchors.among(secret.text.encode())
        assert secret.kind in {DEFAULT[rank].name for rank in among}


def test_equal_secrets_are_known_again_without_being_kept() -> None:
    """By a hash of this process, which tells nothing to anybody else."""
    one, other = ("gh" + "p_" + letters * 9 for letters in ("a1B2", "c3D4"))
    _, found = _known().redact(f"{one} {one} {other}")
    assert found[0] == found[1] != found[2]
    assert one not in repr(found)


_HOSTILE = {
    "a beginning, again and again": "gh" + "p_",
    "beginnings behind escaped breaks": "\\neyJaaaaaaaa",
    "tokens that never end": "eyJaaaaaaaaa.",
    "users without a password": "://a:",
    "doubtful passwords": "://uuu:uuu@h ",
    "passwords that no host follows": "://u:p/",
    "ports and paths": "://h:80/x@y ",
    "lines of a key that do not come": "Private-Lines: 1\n",
    "names without a value": "TOKEN=a",
    "keys that begin and do not end": "-----BEGIN " + "PRIVATE KEY-----",
    "keys that are cut off": "-----BEGIN " + "PRIVATE KEY-----" + "a" * 40 + "\n",
    "base64": "aB3/" * 16 + "\n",
    "one long word": "aB3_",
    "nothing but secrets": "gh" + "p_" + "a1B2" * 9 + " ",
    "signs": "...",
    "escapes": "\x1b[;;;",
    "other letters": "é😀",
}


@pytest.mark.parametrize("unit", _HOSTILE.values(), ids=_HOSTILE.keys())
def test_time_grows_with_the_text(unit: str) -> None:
    """Sixteen times the text takes about sixteen times as long: less than a quarter of quadratic.

    Compared with itself and not with a clock, the better of three.
    """
    clean = Sanitizer()

    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        clean.text(text)
        return min(_timed(lambda: clean.text(text)) for _ in range(3))

    small, large = 2**13, 2**17
    assert seconds(large) < seconds(small) * (large / small) * 4 + 0.05


def _timed(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def test_a_text_of_nothing_but_secrets_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above some number of them the rest goes as a whole, which leaves nothing of any."""
    monkeypatch.setattr(replacing, "_MOST", 1_000)
    clean, found = _known().redact(("gh" + "p_" + "a1B2" * 9 + " ") * 1_500)
    assert "a1B2" not in clean and len(found) == 1_001
    assert clean.endswith("[redacted:the rest, too much in it]")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("password=hunter2!", "password=[redacted:secret]"),
        ('"api_key": "abcd1234efgh"', '"api_key": "[redacted:secret]"'),
        ('db_password = "correcthorse"', 'db_password = "[redacted:secret]"'),
        ('{\\"password\\": \\"hunter22\\"}', '{\\"password\\": \\"[redacted:secret]\\"}'),
        ("client-secret: a1b2c3d4", "client-secret: [redacted:secret]"),
        ("curl -u admin:s3cret https://x", "curl -u admin:[redacted:curl-password] https://x"),
        ("it is kE9dX2mQ7vB4nZ8pL1wR5tY3 now", "it is [redacted:random] now"),
    ],
)
def test_strict_takes_what_is_named_like_a_secret_or_drawn_by_lot(text: str, clean: str) -> None:
    """Which are left alone unless that is asked for: some are none."""
    strict = redactor("strict")
    assert strict.redact(text)[0] == clean
    assert strict.redact(clean) == (clean, [])
    assert _known().redact(text) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        "token = settings.token, const apiKey = process.env.API_KEY_1",
        'token: str = "", password: string, max_tokens: 4096, "input_tokens": 12345',
        "secret: ${{ secrets.GITHUB_TOKEN1 }} password = input(pw1) pwd=$PWD1",
        'password = "your-password-1", token="<TOKEN>", api_key: "xxxxxxxx1"',
        "toolu_01AbCdEfGhIjKlMnOpQr9StU req_011CPQaBcDeFgHiJkLmNoPqR",
        "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567 5e551011-0000-4000-8000-00000000000a",
        "sha512-kE9dX2mQ7vB4nZ8pL1wR5tY3kE9dX2mQ7vB4nZ8pL1wR5tY3== getElementsByClassName2",
    ],
)
def test_strict_leaves_code_and_names_alone(text: str) -> None:
    """Variables, types, placeholders, ids and digests."""
    strict = redactor("strict")
    assert strict.redact(text) == (text, [])


def test_strict_finds_what_the_default_does() -> None:
    """And says the same of it."""
    strict = redactor("strict")
    for secret in planted(seed=9):
        clean, found = strict.redact(secret.text)
        assert all(piece not in clean for piece in secret.secrets), secret.kind
        assert secret.kind in {one.kind for one in found}


def test_ones_own_patterns_are_replaced_however_short() -> None:
    """All of a match, or its groups without a name; also with every other kind off."""
    own = redactor("off", (r"\bEve\b", r"badge (\d{4})", r"(?P<team>blue|red)-team-(\w+)"))
    assert own.suspects(b"Eve")
    clean, found = own.redact("Eve has badge 1234 of the red-team-x9, Evelyn has none")
    assert clean == (
        "[redacted:custom] has badge [redacted:custom] of the red-team-[redacted:custom],"
        " Evelyn has none"
    )
    assert len(found) == 3
    assert redactor("off").redact("Eve") == ("Eve", [])


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("hunter2(", "pattern 2: missing )"),
        (r"(hunter2)\1", "pattern 2: invalid escape sequence"),
        ("(?=hunter2)", "pattern 2: invalid perl operator"),
        ("(hunter2)?", "pattern 2: matches nothing at all"),
        ("hunter2{1001}", "pattern 2: invalid repetition size"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_told_without_saying_it(pattern: str, why: str) -> None:
    """It may be the secret itself; what would need more than linear time is no pattern of RE2."""
    with pytest.raises(PatternError) as caught:
        redactor("default", ("fine", pattern))
    assert str(caught.value) == why and "hunter2" not in str(caught.value)


@pytest.mark.parametrize("kilobytes", [8, 36, 38, 64, 256])
def test_patterns_that_leave_no_room_are_refused(
    monkeypatch: pytest.MonkeyPatch, kilobytes: int
) -> None:
    """A set without room would find nothing at all, and not say so."""
    monkeypatch.setattr(linear, "_MEMORY", kilobytes * 1024)
    sources = ["[a-z]{10}x", "hunter2[a-z]{200}", "gh" + "p_[a-z]{100}"]
    try:
        known = Choice(sources)
    except PatternError as error:
        assert "too large" in str(error) and "hunter2" not in str(error)
    else:
        assert list(known.among(b"hunter2" + b"a" * 300)) == [1]
        assert list(known.among(b"gh" + b"p_" + b"a" * 300)) == [2]


def test_a_pattern_that_splits_a_letter_breaks_nothing() -> None:
    """RE2 knows single bytes."""
    own = redactor("off", (r"x\C",))
    assert own.redact("axé")[0].startswith("a[redacted:custom]")


def test_a_pattern_that_stalls_others_is_as_fast_as_any() -> None:
    """Nested repetitions take an exponential time elsewhere."""
    own = redactor("off", ("(a+)+b",))
    assert not own.suspects(b"a" * 1_000_000)

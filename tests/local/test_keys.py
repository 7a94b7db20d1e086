"""The local project's secrets are made once, stay, and are checked as PostgREST checks them."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import jwt
import pytest

from conv_realtime.errors import ConfigError
from conv_realtime.local.keys import Keys, TokenError, check_claims, load_keys, mint

OWNER = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Fresh secrets."""
    return load_keys(tmp_path / "keys.json")


def test_secrets_stay_the_same(tmp_path: Path) -> None:
    """A second reading gives what the first one made."""
    assert load_keys(tmp_path / "keys.json") == load_keys(tmp_path / "keys.json")


def test_the_file_is_closed_to_others(tmp_path: Path) -> None:
    """Only its owner may read the secrets."""
    load_keys(tmp_path / "deep" / "keys.json")
    assert stat.S_IMODE((tmp_path / "deep" / "keys.json").stat().st_mode) == 0o600


def test_a_given_owner_replaces_the_kept_one_for_good(tmp_path: Path) -> None:
    """The owner set in the environment once is the owner ever after; the keys do not change."""
    first = load_keys(tmp_path / "keys.json")
    assert load_keys(tmp_path / "keys.json", OWNER).owner_id == OWNER
    again = load_keys(tmp_path / "keys.json")
    assert (again.owner_id, again.secret_key) == (OWNER, first.secret_key)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"owner_id": "x"}', '{"other": 1}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    """Secrets are never silently replaced: everything signed with them would be lost."""
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.json is damaged"):
        load_keys(tmp_path / "keys.json")
    assert (tmp_path / "keys.json").read_text() == text


def test_no_secret_in_repr(keys: Keys) -> None:
    """A secret that is shown is a secret that is logged."""
    for secret in (keys.jwt_secret, keys.secret_key, keys.publishable_key, keys.db_password):
        assert secret not in repr(keys)


def test_keys_are_jwts_of_their_roles(keys: Keys) -> None:
    """Publishable and secret key are what supabase clients expect, good for years."""
    for key, role in ((keys.publishable_key, "anon"), (keys.secret_key, "service_role")):
        claims = jwt.decode(key, keys.jwt_secret, algorithms=["HS256"])
        assert claims["role"] == role
        assert claims["exp"] - time.time() > 9 * 365 * 86400


@pytest.mark.parametrize("years", [-30, 30])
def test_keys_hold_whatever_the_clock_said_when_they_were_made(
    years: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a clock of its own begins in 1970, or with the time of another zone."""
    with monkeypatch.context() as patched:
        then = time.time() + years * 365 * 86400
        patched.setattr("conv_realtime.local.keys.time.time", lambda: then)
        keys = load_keys(tmp_path / "keys.json")
    for key in (keys.publishable_key, keys.secret_key):
        keys.verify(key)


def test_a_token_names_its_user(keys: Keys) -> None:
    """A token is the owner's unless another user is asked for."""
    assert keys.verify(keys.token())["sub"] == keys.owner_id
    claims = keys.verify(keys.token(sub=OWNER, email="a@b"))
    assert (claims["sub"], claims["role"], claims["aud"]) == (OWNER, *["authenticated"] * 2)
    assert claims["email"] == "a@b"


def refused(keys: Keys, token: str) -> tuple[str, str]:
    """Gives code and message of the refusal."""
    with pytest.raises(TokenError) as caught:
        keys.verify(token)
    return caught.value.code, caught.value.message


def test_forged_and_broken_tokens_are_refused(keys: Keys) -> None:
    """No other secret, no other algorithm, no other shape."""
    claims = {"role": "service_role", "exp": time.time() + 60}
    other = jwt.encode(claims, "another secret of sufficient length, really", algorithm="HS256")
    assert refused(keys, other) == ("PGRST301", "No suitable key or wrong key type")
    unsigned = jwt.encode(claims, "", algorithm="none")
    assert refused(keys, unsigned)[0] == "PGRST301"
    assert refused(keys, "garbage") == ("PGRST301", "Expected 3 parts in JWT; got 1")
    assert refused(keys, "a.b") == ("PGRST301", "Expected 3 parts in JWT; got 2")
    assert refused(keys, "a.b.c")[0] == "PGRST301"
    assert refused(keys, keys.secret_key[:-4] + "AAAA")[0] == "PGRST301"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": 1000 - 31}, "JWT expired"),
        ({"nbf": 1000 + 31}, "JWT not yet valid"),
        ({"iat": 1000 + 31}, "JWT issued at future"),
        ({"exp": "soon"}, "The JWT 'exp' claim must be a number"),
    ],
)
def test_claims_about_time_hold_within_half_a_minute(
    claims: dict[str, object], message: str
) -> None:
    """Clocks differ; by more than 30 s they do not."""
    with pytest.raises(TokenError, match=message) as caught:
        check_claims(json.dumps(claims), now=1000.0)
    assert caught.value.code == "PGRST303"


def test_claims_within_the_skew_are_taken() -> None:
    """Thirty seconds either way are forgiven."""
    claims = {"exp": 971, "nbf": 1030, "iat": 1030}
    assert check_claims(json.dumps(claims), now=1000.0) == claims


def test_an_expired_token_is_refused_although_its_signature_is_known(keys: Keys) -> None:
    """Signatures are remembered, times are not."""
    token = mint(keys.jwt_secret, "authenticated", -60)
    assert refused(keys, token) == ("PGRST303", "JWT expired")
    assert refused(keys, token) == ("PGRST303", "JWT expired")

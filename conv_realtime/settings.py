"""Every knob: explicit argument > environment > default.

The environment is read when a `Settings` is made, which `Bridge`, `Ingest` and `Relay` do when
they are entered, never at import. Secrets are `SecretStr` and masked wherever they are shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import platformdirs
from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from conv_realtime.errors import ConfigError

KEY_VARIABLES = (
    "SUPABASE_SECRET_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_KEY",
    "SUPABASE_PUBLISHABLE_KEY",
    "SUPABASE_ANON_KEY",
)
"""Where a key comes from: the first that is set goes before the others."""

_KEY = re.compile(r"[!-~]*")


def key_variable() -> str:
    """Return the variable that the key comes from, the usual one where none is set."""
    return next((name for name in KEY_VARIABLES if os.environ.get(name)), KEY_VARIABLES[0])


def as_paths(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return paths as a list, a single one too, with `~` as the user's home."""
    return [at_home(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]


def at_home(path: str | Path) -> Path:
    """Return a path with `~` as the user's home, which no shell has put in its place.

    That of an unknown user stays as it is.
    """
    return Path(os.path.expanduser(path))


def _alias(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Settings of ingest, relay and bridge, by keyword or environment variable.

    Variables begin with `CONV_REALTIME_`, except Supabase's own names.
    """

    model_config = SettingsConfigDict(
        env_prefix="CONV_REALTIME_",
        env_ignore_empty=True,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
    )

    supabase_url: str | None = Field(
        None, validation_alias=_alias("supabase_url", "SUPABASE_URL"), description="Project URL."
    )
    supabase_key: SecretStr | None = Field(
        None,
        validation_alias=_alias(*KEY_VARIABLES, "supabase_key"),
        description="Secret key of a server, or publishable key of a signed-in user.",
    )
    supabase_jwt_secret: SecretStr | None = Field(
        None,
        validation_alias=_alias("supabase_jwt_secret", "SUPABASE_JWT_SECRET"),
        description="Checks the HS256 tokens of /ws clients.",
    )
    supabase_jwks: str | None = Field(
        None,
        validation_alias=_alias("supabase_jwks", "SUPABASE_JWKS"),
        description="JSON Web Key Set that checks asymmetric tokens of /ws clients.",
    )
    paths: Annotated[list[Path] | None, NoDecode] = Field(
        None, description="Files and folders to watch; default: every assistant's usual place."
    )
    state_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_state_dir("conv_realtime", False)),
        description="Checkpoints, machine id and local data.",
    )
    owner_id: UUID | None = Field(
        None, description="User id that owns the rows; needed with a secret key."
    )
    machine: str | None = Field(
        None, description="Name of this machine in ids; default: kept in the state directory."
    )
    redaction: Literal["off", "default", "strict"] = Field(
        "default",
        description="Which secrets a marker replaces before sending: none, those of a known form,"
        " or also what is named like one or looks drawn by lot.",
    )
    redaction_patterns: Annotated[list[str], NoDecode] = Field(
        [], description="Your own secrets, as RE2 expressions; in the variable one a line."
    )
    images: bool = Field(False, description="Send images and attached files, too.")
    max_text_bytes: int = Field(
        2**20, ge=1000, description="Longer texts are cut, with a word that says so, in bytes."
    )
    rest_seconds: float = Field(
        2.0, ge=0, description="A file untouched for so many seconds has come to rest."
    )
    sweep_seconds: float = Field(
        30.0, gt=0, description="Seconds between sweeps that guarantee what the watcher missed."
    )
    live_window: float = Field(
        300.0, ge=0, description="Records older than so many seconds are history, not news."
    )
    max_line_bytes: int = Field(
        64 * 2**20, gt=0, description="Longer lines are skipped and counted, in bytes."
    )
    max_document_bytes: int = Field(
        256 * 2**20,
        gt=0,
        description="Larger files that are rewritten whole are skipped and counted, in bytes."
        " One that is read takes some twice its size of memory.",
    )
    batch_rows: int = Field(500, gt=0, le=5000, description="Rows a request at most.")
    batch_bytes: int = Field(2 * 2**20, gt=0, description="Bytes of rows a request, about.")
    concurrency: int = Field(
        4, gt=0, description="Files sent at the same time; short ones go together."
    )
    request_timeout: float = Field(30.0, gt=0, description="Seconds before a request is retried.")
    realtime_messages_per_second: float = Field(
        80.0, gt=0, description="Realtime messages a second, above which hints replace rows."
    )
    reconcile_interval: float = Field(
        15.0, gt=0, description="Seconds between reads of the database without a wake-up."
    )
    replay_events: int = Field(
        10_000,
        gt=0,
        description="Events kept in memory for clients that come back; of long ones, about 64 MB.",
    )
    client_queue_bytes: int = Field(
        2**20, gt=0, description="Bytes waiting for a slow client before it gets resync."
    )
    client_queue_events: int = Field(
        5_000, gt=0, description="Events waiting for a slow client before it gets resync."
    )
    heartbeat_seconds: float = Field(
        20.0, gt=0, description="Seconds between pings; two unanswered end a connection."
    )
    trust_loopback: bool = Field(
        True, description="Let this machine connect without a token, whoever is on it."
    )
    allowed_origins: Annotated[list[str], NoDecode] = Field(
        [],
        description="Origins beside loopback that may connect, with a token, such as"
        ' "https://app.example".',
    )
    ws_token: SecretStr | None = Field(
        None, description="Static bearer token that lets a client of any address connect."
    )
    ws_timestamp: bool = Field(
        False, description="Add the older top-level timestamp (ms) to every frame."
    )
    ws_path: str = Field("/ws", description="Path of the WebSocket endpoint.")
    metrics_path: str | None = Field(
        None, description="Path of an endpoint for Prometheus, for this machine alone; off."
    )
    health_path: str | None = Field("/healthz", description="Path of the health endpoint, or none.")

    @field_validator(
        "supabase_url", "supabase_key", "supabase_jwt_secret", "owner_id", "ws_token", mode="before"
    )
    @classmethod
    def _bare(cls, value: Any, info: ValidationInfo) -> Any:
        """Leave out what stands around a value that was read from a file.

        Its newline, and the quotes that Docker takes for a part of it.
        """
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if not isinstance(value, str):
            return value
        value = value.strip()
        if info.field_name in ("supabase_url", "supabase_key"):  # which hold none themselves
            value = value.strip("\"'")
        return value or None

    @field_validator("supabase_key")
    @classmethod
    def _sendable(cls, value: SecretStr | None) -> SecretStr | None:
        """Refuse a key that no header can hold: each request would fail as if nobody answered."""
        if value is not None and not _KEY.fullmatch(value.get_secret_value()):
            raise ValueError("is no key: it holds a space, a line break or a letter that none has")
        return value

    @field_validator("ws_path", "metrics_path", "health_path")
    @classmethod
    def _rooted(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Take "none" from the environment where there need not be a path."""
        if value is not None and value.lower() == "none" and info.field_name != "ws_path":
            return None
        if value is not None and not value.startswith("/"):
            raise ValueError("is no path: that begins with /")
        return value

    @field_validator("paths", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Take a comma-separated string from the environment."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return [value] if isinstance(value, Path) else value

    @field_validator("state_dir")
    @classmethod
    def _at_home(cls, value: Path) -> Path:
        return at_home(value)

    @field_validator("paths")
    @classmethod
    def _all_at_home(cls, value: list[Path] | None) -> list[Path] | None:
        return None if value is None else as_paths(value)

    @field_validator("redaction_patterns", mode="before")
    @classmethod
    def _lines(cls, value: Any) -> Any:
        """Take one pattern a line from the environment: a comma is part of many."""
        if isinstance(value, str):
            return [line for line in value.splitlines() if line.strip()]
        return value

    @classmethod
    def load(cls, **values: Any) -> Settings:
        """Return the settings; keywords that are None are left to the environment.

        Raises:
            ConfigError: a value does not fit; it names the setting, not a secret's value.
        """
        try:
            return cls(**{name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"]) or "settings"
            raise ConfigError(name, first["msg"].removeprefix("Value error, ")) from None

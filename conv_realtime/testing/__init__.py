"""For your own tests: a bridge without server and database, and a Supabase of your own.

async with testing.bridge() as b:
    b.append(testing.claude_line("hi"))
    assert (await b.next("new_message")).data.text == "hi"

async with testing.supabase_local() as supabase:
    client = await acreate_client(supabase.url, supabase.secret_key)

Under pytest the fixture `supabase_local` is there by itself; README.md in this folder tells more.
Names are loaded when they are first used: pytest imports this package in every run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conv_realtime.testing.bridging import OWNER as OWNER
    from conv_realtime.testing.bridging import TestBridge as TestBridge
    from conv_realtime.testing.bridging import bridge as bridge
    from conv_realtime.testing.faults import Fault as Fault
    from conv_realtime.testing.faults import Faults as Faults
    from conv_realtime.testing.formats.contract import FormatContract as FormatContract
    from conv_realtime.testing.formats.contract import check_format as check_format
    from conv_realtime.testing.lines import SESSION as SESSION
    from conv_realtime.testing.lines import claude_line as claude_line
    from conv_realtime.testing.memory_store import MemoryStore as MemoryStore
    from conv_realtime.testing.supabase import SupabaseLocal as SupabaseLocal
    from conv_realtime.testing.supabase import SupabaseServer as SupabaseServer
    from conv_realtime.testing.supabase import supabase_local as supabase_local

_HOMES = {
    "bridging": "OWNER TestBridge bridge",
    "faults": "Fault Faults",
    "formats.contract": "FormatContract check_format",
    "lines": "SESSION claude_line",
    "memory_store": "MemoryStore",
    "supabase": "SupabaseLocal SupabaseServer supabase_local",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
_LOCAL = ("faults", "supabase")

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if home not in _LOCAL:
            raise
        advice = f"{name} needs a PostgreSQL of its own: pip install 'conv_realtime[local]'"
        raise ModuleNotFoundError(f"{advice} ({error})", name=error.name) from error


def __dir__() -> list[str]:
    return sorted(__all__)

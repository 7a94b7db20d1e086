"""Watch AI-assistant transcripts, upsert them into Supabase, and follow them live.

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conv_realtime.bridge import Bridge as Bridge
    from conv_realtime.core.document import Export as Export
    from conv_realtime.core.document import JsonDocument as JsonDocument
    from conv_realtime.core.document import StatedConversation as StatedConversation
    from conv_realtime.core.format import Format as Format
    from conv_realtime.core.format import Head as Head
    from conv_realtime.core.format import Machine as Machine
    from conv_realtime.core.format import Recognised as Recognised
    from conv_realtime.core.json_lines import JsonLines as JsonLines
    from conv_realtime.core.json_lines import Noted as Noted
    from conv_realtime.core.json_lines import Said as Said
    from conv_realtime.core.rows import Rows as Rows
    from conv_realtime.edges.feed import SupabaseFeed as SupabaseFeed
    from conv_realtime.edges.live import Live as Live
    from conv_realtime.edges.live import connect as connect
    from conv_realtime.edges.store import SupabaseStore as SupabaseStore
    from conv_realtime.errors import ConfigError as ConfigError
    from conv_realtime.errors import ConvRealtimeError as ConvRealtimeError
    from conv_realtime.errors import FeedError as FeedError
    from conv_realtime.errors import MigrationError as MigrationError
    from conv_realtime.errors import SessionError as SessionError
    from conv_realtime.errors import SourceError as SourceError
    from conv_realtime.errors import StoreError as StoreError
    from conv_realtime.events import ConnectionEstablished as ConnectionEstablished
    from conv_realtime.events import ConversationDeleted as ConversationDeleted
    from conv_realtime.events import ConversationUpdate as ConversationUpdate
    from conv_realtime.events import ErrorEvent as ErrorEvent
    from conv_realtime.events import Event as Event
    from conv_realtime.events import FileUpdate as FileUpdate
    from conv_realtime.events import MessageDeleted as MessageDeleted
    from conv_realtime.events import MessageUpdate as MessageUpdate
    from conv_realtime.events import NewConversation as NewConversation
    from conv_realtime.events import NewMessage as NewMessage
    from conv_realtime.events import Ping as Ping
    from conv_realtime.events import Pong as Pong
    from conv_realtime.events import ProjectUpdate as ProjectUpdate
    from conv_realtime.events import Resync as Resync
    from conv_realtime.events import ServerShutdown as ServerShutdown
    from conv_realtime.events import Snapshot as Snapshot
    from conv_realtime.events import Subscribed as Subscribed
    from conv_realtime.events import Unsubscribed as Unsubscribed
    from conv_realtime.ingest import Ingest as Ingest
    from conv_realtime.models import NAMESPACE as NAMESPACE
    from conv_realtime.models import Conversation as Conversation
    from conv_realtime.models import Message as Message
    from conv_realtime.models import Project as Project
    from conv_realtime.models import Skipped as Skipped
    from conv_realtime.models import conversation_id as conversation_id
    from conv_realtime.models import message_id as message_id
    from conv_realtime.models import project_id as project_id
    from conv_realtime.ports import Feed as Feed
    from conv_realtime.ports import Store as Store
    from conv_realtime.relay import ConnectionManager as ConnectionManager
    from conv_realtime.relay import LocalFeed as LocalFeed
    from conv_realtime.relay import Relay as Relay
    from conv_realtime.settings import Settings as Settings

_HOMES = {
    "bridge": "Bridge",
    "ingest": "Ingest",
    "relay": "Relay ConnectionManager LocalFeed",
    "settings": "Settings",
    "edges.store": "SupabaseStore",
    "edges.feed": "SupabaseFeed",
    "edges.live": "connect Live",
    "core.format": "Format Machine Head Recognised",
    "core.document": "JsonDocument Export StatedConversation",
    "core.json_lines": "JsonLines Said Noted",
    "core.rows": "Rows",
    "ports": "Store Feed",
    "models": (
        "Project Conversation Message Skipped NAMESPACE project_id conversation_id message_id"
    ),
    "events": (
        "Event NewConversation ConversationUpdate ConversationDeleted NewMessage MessageUpdate "
        "MessageDeleted ProjectUpdate FileUpdate ConnectionEstablished Snapshot Subscribed "
        "Unsubscribed Ping Pong Resync ErrorEvent ServerShutdown"
    ),
    "errors": (
        "ConvRealtimeError ConfigError SourceError StoreError SessionError FeedError MigrationError"
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__version__ = "0.1.0"
__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""The frames that a Realtime server answers with, and the words of its refusals."""

from __future__ import annotations

from typing import Any

from conv_realtime.local.realtime.channels import Channel
from conv_realtime.local.realtime.frames import Frame, Ref
from conv_realtime.local.realtime.join import JoinRefused
from conv_realtime.local.realtime.tokens import TokenRefused

DATABASE_AWAY = "Realtime was unable to connect to the project database"


def reply(topic: str, ref: Ref, join_ref: Ref, status: str, response: Any) -> Frame:
    """Answers one frame; ``response`` is an object but for one captured exception."""
    return Frame(topic, "phx_reply", {"status": status, "response": response}, ref, join_ref)


def unmatched(topic: str, ref: Ref) -> Frame:
    """Answers a frame for a topic that this socket has not joined."""
    return reply(topic, ref, None, "error", {"reason": "unmatched topic"})


def system(channel: Channel, extension: str, status: str, message: str) -> Frame:
    """Tells something about a channel; an error of the extension ``system`` precedes its end."""
    payload = {
        "message": message,
        "status": status,
        "extension": extension,
        "channel": channel.name,
    }
    return Frame(channel.topic, "system", payload, None, channel.join_ref)


def closed(channel: Channel) -> Frame:
    """Tells the end of a channel, under the ref of the join that made it."""
    return Frame(channel.topic, "phx_close", {}, channel.join_ref, channel.join_ref)


def reason(refusal: Exception) -> str:
    """Returns the reason of the reply that refuses a join."""
    if isinstance(refusal, JoinRefused):
        return refusal.reason
    if isinstance(refusal, TokenRefused):
        return refusal.at_join
    return f"UnableToConnectToProject: {DATABASE_AWAY}"


def forbidden(name: str) -> str:
    """Says that the policies do not let somebody read a private channel."""
    return f"You do not have permissions to read from this Channel topic: {name}"

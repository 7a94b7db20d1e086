"""The relay alone, on another machine than the transcripts: `/ws` of one Supabase project.

    export SUPABASE_URL=... SUPABASE_SECRET_KEY=... CONV_REALTIME_WS_TOKEN=a-long-random-string
    uvicorn --app-dir examples relay_only:app --host 0.0.0.0 --port 8787 --ws websockets-sansio

You will see a line here for each conversation that begins, on whatever machine runs
`ingest_only.py` or `conv-realtime up`, and each message of it wherever somebody follows:

    CONV_REALTIME_WS_TOKEN=a-long-random-string conv-realtime tail --url ws://this-machine:8787/ws

Pages import the client from here, too: `http://this-machine:8787/client.js`. Only this machine
may connect without the token, and pages of other origins only as `allowed_origins` says.
"""

from __future__ import annotations

from starlette.applications import Starlette

from conv_realtime import NewConversation, Relay
from conv_realtime.viewer import client_routes

relay = Relay()
app = Starlette(routes=[*relay.routes, *client_routes()], lifespan=relay.lifespan)


@relay.on("new_conversation")
async def began(event: NewConversation) -> None:
    """Say where a conversation began, and with what."""
    line = f"{event.data.machine}: {event.data.title or event.data.id}"
    print("".join(filter(str.isprintable, line)))

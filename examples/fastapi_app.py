"""The bridge inside a FastAPI application of your own.

    pip install fastapi
    conv-realtime local                  # a Supabase on this machine; prints what to set
    export SUPABASE_URL=... SUPABASE_SECRET_KEY=... CONV_REALTIME_OWNER_ID=...
    uvicorn --app-dir examples fastapi_app:app --ws websockets-sansio

`/ws` and `/healthz` stand beside the application's own routes. You will see the live events with
`conv-realtime tail --url ws://127.0.0.1:8000/ws`, and on http://127.0.0.1:8000/stats how many
messages of each role came. With several workers one of them ingests and the others serve.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import FastAPI

from conv_realtime import Bridge, NewMessage

bridge = Bridge()
app = FastAPI(lifespan=bridge.lifespan)
app.router.routes.extend(bridge.routes)

roles: Counter[str] = Counter()


@bridge.on("new_message")
async def count(event: NewMessage) -> None:
    """Count messages by role; a handler has a queue of its own and never holds up the others."""
    roles[event.data.role] += 1


@app.get("/stats")
async def stats() -> dict[str, Any]:
    """Say how many messages came since the start, and how many clients listen."""
    return {"messages": dict(roles), "clients": len(bridge.manager.active_connections)}

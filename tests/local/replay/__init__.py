"""Plays what a real Realtime server was recorded doing against ours, and tells how they differ.

`python -m tests.local.replay [FLOW…] [--captures DIR]`, from the project's root. A capture holds
the frames of one flow; the client's are sent again as they are, what happened between them (SQL,
HTTP broadcasts) stands in `flows.py`, and what the server answers is compared, connection by
connection. Differences that stay are in `differences.py`, nowhere else.
"""

"""Random days of the real thing: real files, sockets, processes and PostgreSQL, everything failing.

`python -m tests.simulator` plays many; see `README.md`. A day is a list of actions that
follows from its seed. When it ends, and everything that failed works again, the database and each
client must have what `model` says: it knows what was written, and calls nothing of the library.
"""

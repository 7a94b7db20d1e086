"""`postgres_changes`: committed rows of published tables, to those who may see them.

WAL ─▶ feed ─▶ one group per user ─▶ channels
          │        └ one query per table: which of these rows may this user see?
          └ what the tables look like now: keys, types, grants, row level security
"""

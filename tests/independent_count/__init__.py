"""Counts what transcripts say without the library, and compares: see `__main__`."""

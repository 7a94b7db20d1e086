"""Decisions without I/O: bytes in, rows and frames out. No clock, no sockets, no logging."""

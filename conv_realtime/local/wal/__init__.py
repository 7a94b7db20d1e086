"""Committed changes out of PostgreSQL, by logical replication."""

"""A real PostgreSQL as a supervised child: placed, locked, guarded."""

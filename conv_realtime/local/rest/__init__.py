"""The Data API: what PostgREST answers, as far as this library and its frontends ask."""

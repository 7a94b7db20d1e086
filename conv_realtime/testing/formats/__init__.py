"""The contract of transcript formats, for your own: `check_format` and `FormatContract`."""

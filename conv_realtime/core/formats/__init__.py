"""One file per transcript format: bytes of one file → records → conversation and messages."""

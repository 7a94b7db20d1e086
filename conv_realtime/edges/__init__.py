"""One outside thing per file; no file here imports another."""

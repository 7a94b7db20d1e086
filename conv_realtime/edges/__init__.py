"""One outside thing per file or folder; none of them imports another."""

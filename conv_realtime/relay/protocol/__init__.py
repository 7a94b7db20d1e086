"""The protocol of `/ws` for people: README.md, and what it is made from."""

"""Frozen models. Nothing here reads a file, opens a connection or knows the time."""

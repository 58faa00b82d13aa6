"""Frozen models. Nothing here reads a file, opens a socket or knows the time."""

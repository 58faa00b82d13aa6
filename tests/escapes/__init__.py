"""Attempts to get more from a pool than it grants. Each must fail: `make test-escape`.

`attempts.py` has them as data: add rows there. `raw_client.py` is a client that uses HTCondor's own
bindings, and nothing of this project.
"""

"""Tests on the three-node lab (`make test-lab`). They break hosts and repair them."""

"""Tests on the three-node lab (`make test-lab`); they break hosts, and mend them."""

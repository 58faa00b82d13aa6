"""The few tests that are run on every engine and kernel of the compatibility matrix."""

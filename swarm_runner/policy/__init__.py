"""The built-in hook implementations: models in, a decision out, without I/O and without a clock."""

"""The default hook implementations: models in, a decision out, no I/O and no clock."""

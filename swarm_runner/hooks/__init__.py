"""The hook contract, and the one place that calls plugins."""

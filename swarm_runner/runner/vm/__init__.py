"""Jobs that are virtual machines: checks before they are submitted, and their outcomes."""

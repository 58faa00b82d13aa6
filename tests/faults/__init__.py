"""Faults of a pool under load, one after another, and what each cost (`make faults`)."""

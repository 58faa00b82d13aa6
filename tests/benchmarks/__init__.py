"""Measurements behind the documentation's claims, each beside a reference on the same machine."""

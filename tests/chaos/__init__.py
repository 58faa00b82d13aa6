"""Scaling, an upgrade and a drain at once on the three-node lab must cost no job (`make chaos`)."""

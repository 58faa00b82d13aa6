"""Everything at once on the three-node lab: no job may pay for it (`make chaos`)."""

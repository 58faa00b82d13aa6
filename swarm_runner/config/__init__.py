"""Every file that people write: one reader for commands and plugins."""

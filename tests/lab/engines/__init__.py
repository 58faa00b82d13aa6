"""Docker engines of other Debian releases on this machine, each in a root of its own."""

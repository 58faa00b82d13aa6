"""The version of every distribution: the plugins' files are links to this one."""

__version__ = "0.1.0"

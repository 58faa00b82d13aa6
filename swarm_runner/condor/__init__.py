"""HTCondor: the only package that imports its Python bindings.

The bindings are loaded on first use. Their exceptions are translated here, and none of their
objects leaves this package.
"""

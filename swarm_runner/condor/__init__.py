"""The only importer of HTCondor's bindings; nothing of theirs leaves this package.

The bindings are loaded when first needed, and their exceptions are wrapped once, here.
"""

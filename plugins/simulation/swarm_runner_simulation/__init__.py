"""A pool on a fake clock, to judge the policy that sizes a real one before it is trusted.

No I/O beside reading a trace and writing a picture; no daemon, no Docker, no HTCondor.
"""

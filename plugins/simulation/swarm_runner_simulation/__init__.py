"""Simulates a pool in simulated time, to evaluate the sizing policy before a real pool uses it.

It reads traces and writes plots; it contacts neither HTCondor nor Docker. It uses modules of
swarm_runner that are not public (the sizing policy, its packing, the command line's parts), so both
distributions are released together.
"""

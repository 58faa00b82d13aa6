"""Metrics of a pool and of a runner, in the format that Prometheus reads.

What is served is what was observed last: nobody is asked on a scrape. No job, user or image is a
label, so that the number of series depends on the pool's classes alone.
"""

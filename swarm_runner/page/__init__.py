"""A pool in the browser.

The daemon observes once, and every browser sees the last observation: a request asks neither
HTCondor nor Swarm. The page of one job is the exception; its queries are few, cached and shared.
Only this package imports starlette, uvicorn and jinja2, an extra: `page`.
"""

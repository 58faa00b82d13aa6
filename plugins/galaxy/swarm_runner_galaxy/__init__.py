"""Galaxy's side of swarm_runner: a job runner for job_conf.yml.

Galaxy calls in through `runner.SwarmJobRunner`; what it hands over leaves for the core as
`Invocation`s, and the core's changes come back as Galaxy's states. Nothing here talks to HTCondor.
"""

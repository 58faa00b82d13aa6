"""Three Swarm hosts on one machine, for experiments and for tests that break hosts.

Each host has its own Docker engine in its own cgroup and network, mount and host name namespaces.
Everything is named swarm-runner-lab and stored in .state/lab-hosts. The machine's own engine is
only read from. Everything needs root.
"""

"""Three Swarm hosts on one machine, to play on and to break.

Each host has an engine of its own, in network, mount and host name namespaces of its own and in a
cgroup of its own. What is made here bears the name swarm-runner-lab and lies in .state/lab-hosts;
the machine's own engine is only read from. Everything needs root.
"""

"""A machine of its own, emulated: another kernel, cgroup v2, and IP_VS."""

"""Bring up, scale, look at and take down a pool: observe, decide, act.

Keeps nothing of its own: Swarm's service specs and HTCondor's ads are the state.
"""

from swarm_runner.provisioner.autoscaler import Autoscaler
from swarm_runner.provisioner.provisioner import Provisioner

__all__ = ["Autoscaler", "Provisioner"]

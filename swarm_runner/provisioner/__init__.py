"""Create, scale, upgrade, repair and remove a pool: observe, decide, act.

The package stores nothing. Swarm's service specs and HTCondor's ads are its only state.
"""

from swarm_runner.provisioner.autoscaler import Autoscaler
from swarm_runner.provisioner.provisioner import Provisioner

__all__ = ["Autoscaler", "Provisioner"]

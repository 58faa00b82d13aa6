"""Brings the services up that monitor a pool, keeps them as configured, or removes them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

from swarm_runner.errors import PreconditionError
from swarm_runner.provisioner.credentials import Tokens
from swarm_runner.structured_log import get_logger
from swarm_runner.swarm.monitoring_specs import DASHBOARD_FILE, RULES_FILE, monitoring_stack
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import SPEC_DIGEST_LABEL, Stack

log = get_logger(__name__)


def is_monitored(stack: Stack, swarm: Swarm, enabled: bool | None) -> bool:
    """Return whether the pool is to be monitored; None keeps it as it is."""
    return stack.pool.prometheus in swarm.services(stack.pool.name) if enabled is None else enabled


def ensure_monitoring(
    stack: Stack, swarm: Swarm, tokens: Tokens, progress: Callable[[str], None]
) -> None:
    """Create, update or remove the monitoring services, as `stack.monitored` says.

    Raises PreconditionError when an image or a secret is missing.
    """
    pool = stack.pool
    existing = swarm.services(pool.name)
    if not stack.monitored:
        _remove(stack, swarm, progress, {pool.observer, pool.prometheus, pool.grafana})
        return
    _ensure_images(stack, swarm, progress)
    files = {
        name: (resources.files("swarm_runner") / "metrics" / "monitoring" / name).read_bytes()
        for name in (RULES_FILE, DASHBOARD_FILE)
    }
    observer_image = None
    if pool.autoscaler not in existing:
        observer_image = swarm.autoscaler_image(pool.autoscaler_image, stack.image, progress)
        tokens.ensure_autoscaler_token()
    node_id = swarm.docker_engine().node_id
    monitoring = monitoring_stack(stack, files, node_id, observer_image=observer_image)
    if pool.monitoring.grafana_password_secret is None:
        progress(
            "without Grafana: pool.monitoring.grafana_password_secret names no secret with the "
            "password of its user admin"
        )
    known = swarm.configs(pool.name)
    for name in monitoring.configs.keys() - known:
        swarm.create_config(name, monitoring.configs[name], stack.labels)
    for spec in monitoring.services:
        if spec.name not in existing:
            progress(f"creating service {spec.name}")
            swarm.create_service(spec)
            log.info("Service created", service=spec.name, reason="the pool is monitored")
        elif existing[spec.name].labels.get(SPEC_DIGEST_LABEL) != spec.digest():
            progress(f"updating service {spec.name}")
            swarm.update_service(spec)
            log.info("Service updated", service=spec.name, reason="its configuration changed")
    wanted = {spec.name for spec in monitoring.services}
    _remove(stack, swarm, progress, {pool.observer, pool.prometheus, pool.grafana} - wanted)
    swarm.remove_configs(sorted(known - monitoring.configs.keys()))


def _ensure_images(stack: Stack, swarm: Swarm, progress: Callable[[str], None]) -> None:
    """Get the images before anything changes; the services run on this engine's node."""
    settings = stack.pool.monitoring
    images = {"prometheus_image": settings.prometheus_image}
    if settings.grafana_password_secret is not None:
        images["grafana_image"] = settings.grafana_image
    for key, image in images.items():
        try:
            swarm.pool_image(image, progress)
        except PreconditionError as error:
            raise PreconditionError(
                f"{error}; name an image that this engine has or can pull in pool.monitoring.{key}"
            ) from error


def _remove(stack: Stack, swarm: Swarm, progress: Callable[[str], None], names: set[str]) -> None:
    """Remove the services that exist. Without any, the configs go, too; the volumes stay."""
    existing = names & swarm.services(stack.pool.name).keys()
    if existing:
        progress(f"removing {', '.join(sorted(existing))}")
        swarm.remove_services(sorted(existing))
        for name in sorted(existing):
            log.info("Service removed", service=name, reason="it is no longer configured")
    if not stack.monitored:
        swarm.remove_configs(sorted(swarm.configs(stack.pool.name)))

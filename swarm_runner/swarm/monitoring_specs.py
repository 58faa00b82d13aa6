"""A pool's own Prometheus and Grafana as Swarm services. This module does no I/O.

Sources: Prometheus's documentation, "Configuration"; Grafana's, "Provision Grafana" and "Configure
a Grafana Docker image".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from swarm_runner.swarm.specs import (
    METRICS_PORT,
    METRICS_VARIABLE,
    ConfigSpec,
    MountSpec,
    SecretSpec,
    ServiceSpec,
    Stack,
)

RULES_FILE, DASHBOARD_FILE = "alerts.yml", "grafana-dashboard.json"
PROMETHEUS_PORT = 9090
_PROMETHEUS_DIRECTORY = "/etc/prometheus"
_GRAFANA_DIRECTORY = "/etc/grafana/provisioning"
_DASHBOARDS = "/etc/swarm-runner/dashboards"
_PASSWORD = "/run/secrets/grafana-password"  # noqa: S105 - a path
# The value of the variable of autoscaler/entrypoint.py: observe and change nothing.
OBSERVE_VARIABLE, OBSERVE = "SWARM_RUNNER_OBSERVE_ONLY", "1"


@dataclass(frozen=True, slots=True)
class MonitoringStack:
    """The services of a monitored pool, and the contents of the configs that they name."""

    services: tuple[ServiceSpec, ...]
    configs: Mapping[str, bytes] = field(default_factory=dict)


def monitoring_stack(
    stack: Stack, files: Mapping[str, bytes], node_id: str, *, observer_image: str | None
) -> MonitoringStack:
    """Return the services that monitor a pool, on the Swarm manager `node_id`.

    `files` are the alert rules and the dashboard, by name. `observer_image` is the autoscaler's
    image, for a pool whose autoscaler does not serve its metrics; None if that does.
    """
    target = stack.pool.autoscaler if observer_image is None else stack.pool.observer
    configs: dict[str, bytes] = {}

    def config(content: bytes, path: str) -> ConfigSpec:
        # A config cannot be changed: another content is another config.
        digest = hashlib.sha256(content).hexdigest()[:12]
        name = f"{stack.pool.name}_htcondor-{path.rpartition('/')[2].replace('.', '-')}-{digest}"
        configs[name] = content
        return ConfigSpec(name=name, target=path)

    services = [] if observer_image is None else [_observer(stack, observer_image, node_id)]
    prometheus_configs = (
        config(_yaml(prometheus_config(stack, target)), f"{_PROMETHEUS_DIRECTORY}/prometheus.yml"),
        config(files[RULES_FILE], f"{_PROMETHEUS_DIRECTORY}/{RULES_FILE}"),
    )
    services.append(_prometheus(stack, node_id, prometheus_configs))
    if stack.pool.monitoring.grafana_password_secret is not None:
        grafana_configs = (
            config(
                _yaml(grafana_datasources(stack)),
                f"{_GRAFANA_DIRECTORY}/datasources/swarm-runner.yml",
            ),
            config(_yaml(_DASHBOARD_PROVIDER), f"{_GRAFANA_DIRECTORY}/dashboards/provider.yml"),
            config(files[DASHBOARD_FILE], f"{_DASHBOARDS}/{DASHBOARD_FILE}"),
        )
        services.append(_grafana(stack, node_id, grafana_configs))
    return MonitoringStack(tuple(services), configs)


def prometheus_config(stack: Stack, target: str) -> dict[str, Any]:
    """Return Prometheus's configuration; `target` is the service that serves the metrics."""
    document: dict[str, Any] = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": [f"{_PROMETHEUS_DIRECTORY}/{RULES_FILE}"],
        "scrape_configs": [
            {
                "job_name": "swarm-runner",
                "static_configs": [{"targets": [f"{target}:{METRICS_PORT}"]}],
            }
        ],
    }
    if managers := stack.pool.monitoring.alertmanagers:
        document["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [*managers]}]}]}
    return document


def grafana_datasources(stack: Stack) -> dict[str, Any]:
    """Return Grafana's data source: the pool's Prometheus."""
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "type": "prometheus",
                "access": "proxy",
                "url": f"http://{stack.pool.prometheus}:{_prometheus_port(stack)}",
                "isDefault": True,
            }
        ],
    }


_DASHBOARD_PROVIDER = {
    "apiVersion": 1,
    "providers": [{"name": "swarm-runner", "type": "file", "options": {"path": _DASHBOARDS}}],
}


def _prometheus_port(stack: Stack) -> int:
    return stack.pool.monitoring.prometheus_port or PROMETHEUS_PORT


def _observer(stack: Stack, image: str, node_id: str) -> ServiceSpec:
    spec = stack.autoscaler(image, node_id)
    environment = spec.environment | {
        METRICS_VARIABLE: f"0.0.0.0:{METRICS_PORT}",
        OBSERVE_VARIABLE: OBSERVE,
    }
    return spec.model_copy(update={"name": stack.pool.observer, "environment": environment})


def _prometheus(stack: Stack, node_id: str, configs: tuple[ConfigSpec, ...]) -> ServiceSpec:
    settings = stack.pool.monitoring
    data = MountSpec(source=f"{stack.pool.prometheus}-data", target="/prometheus", volume=True)
    return ServiceSpec(
        name=stack.pool.prometheus,
        image=settings.prometheus_image,
        environment={},
        labels=stack.labels,
        mounts=(data,),
        secret=None,
        configs=configs,
        arguments=(
            f"--config.file={_PROMETHEUS_DIRECTORY}/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.time={settings.retention_days}d",
            f"--web.listen-address=0.0.0.0:{_prometheus_port(stack)}",
        ),
        network=stack.network,
        replicas=1,
        port=settings.prometheus_port,
        node_id=node_id,
    )


def _grafana(stack: Stack, node_id: str, configs: tuple[ConfigSpec, ...]) -> ServiceSpec:
    settings = stack.pool.monitoring
    data = MountSpec(source=f"{stack.pool.grafana}-data", target="/var/lib/grafana", volume=True)
    return ServiceSpec(
        name=stack.pool.grafana,
        image=settings.grafana_image,
        environment={
            "GF_SECURITY_ADMIN_PASSWORD__FILE": _PASSWORD,
            "GF_SERVER_HTTP_PORT": str(settings.grafana_port),
            "GF_USERS_ALLOW_SIGN_UP": "false",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": f"{_DASHBOARDS}/{DASHBOARD_FILE}",
        },
        labels=stack.labels,
        mounts=(data,),
        secret=SecretSpec(name=str(settings.grafana_password_secret), target=_PASSWORD),
        readable_secrets=True,
        configs=configs,
        network=stack.network,
        replicas=1,
        port=settings.grafana_port,
        node_id=node_id,
    )


def volumes(stack: Stack) -> list[str]:
    """Return the names of the volumes of these services."""
    return [f"{stack.pool.prometheus}-data", f"{stack.pool.grafana}-data"]


def _yaml(document: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(document), sort_keys=False).encode()

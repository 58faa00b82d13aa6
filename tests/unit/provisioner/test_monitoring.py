"""The monitoring services of a pool on a Swarm in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from swarm_runner.errors import InvalidInputError, PreconditionError
from swarm_runner.model.monitoring import Monitoring
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.provisioner import Provisioner
from swarm_runner.swarm.monitoring_specs import (
    DASHBOARD_FILE,
    RULES_FILE,
    grafana_datasources,
    monitoring_stack,
    prometheus_config,
)
from swarm_runner.swarm.specs import POOL_LABEL, Stack
from swarm_runner.testing.swarm import FakeSwarm

POOL = Pool(
    name="galaxy",
    classes={"normal": CapacityClass(memory_mb=1024, replicas=1)},
    monitoring=Monitoring(
        prometheus_image="registry.example/prometheus:1",
        grafana_password_secret="grafana",  # noqa: S106 - a name
    ),
)
PLAIN = POOL.model_copy(update={"monitoring": Monitoring()})
FILES = {RULES_FILE: b"groups: []", DASHBOARD_FILE: b"{}"}
OBSERVER, AUTOSCALER = "galaxy_htcondor-observer", "galaxy_htcondor-autoscaler"
PROMETHEUS, GRAFANA = "galaxy_htcondor-prometheus", "galaxy_htcondor-grafana"


@pytest.fixture
def swarm() -> FakeSwarm:
    fake = FakeSwarm()
    # `docker secret create grafana FILE`
    fake.create_secret("grafana", b"password", {POOL_LABEL: "none"})
    return fake


class Command:
    """`pool up` for one pool after another, and what it reported."""

    def __init__(self, swarm: FakeSwarm, directory: Path) -> None:
        self.swarm, self._token, self.messages = swarm, directory / "token", list[str]()

    def provisioner(self, pool: Pool) -> Provisioner:
        return Provisioner(
            pool, self.swarm, self.swarm, self._token, self.messages.append, poll_interval_s=0.001
        )

    def up(self, pool: Pool = POOL, **settings: bool | None) -> set[str]:
        """Return the services that are neither manager nor executors."""
        self.provisioner(pool).up(**settings)  # type: ignore[arg-type]
        return {name for name in self.swarm.services("galaxy") if "executor" not in name} - {
            pool.service()
        }


@pytest.fixture
def command(swarm: FakeSwarm, tmp_path: Path) -> Command:
    return Command(swarm, tmp_path)


def test_they_are_made_kept_changed_and_removed(command: Command, swarm: FakeSwarm) -> None:
    assert command.up() == set()
    assert command.up(monitoring=True) == {OBSERVER, PROMETHEUS, GRAFANA}
    assert len(swarm.configs("galaxy")) == 5
    versions = {name: state.version for name, state in swarm.services("galaxy").items()}
    assert command.up() == {OBSERVER, PROMETHEUS, GRAFANA}
    assert versions == {name: state.version for name, state in swarm.services("galaxy").items()}

    settings = POOL.monitoring.model_copy(update={"alertmanagers": ("alerts.example:9093",)})
    changed = POOL.model_copy(update={"monitoring": settings})
    before = swarm.configs("galaxy")
    command.up(changed)
    assert swarm.services("galaxy")[PROMETHEUS].version > versions[PROMETHEUS]
    assert swarm.services("galaxy")[GRAFANA].version == versions[GRAFANA]
    assert len(swarm.configs("galaxy")) == 5
    assert len(before - swarm.configs("galaxy")) == 1

    assert command.up(changed, monitoring=False) == set()
    assert swarm.configs("galaxy") == set()


def test_the_autoscaler_serves_the_metrics_when_there_is_one(
    command: Command, swarm: FakeSwarm
) -> None:
    assert command.up(autoscale=True) == {AUTOSCALER}
    version = swarm.services("galaxy")[AUTOSCALER].version
    assert "SWARM_RUNNER_METRICS" not in swarm.services("galaxy")[AUTOSCALER].environment
    assert command.up(monitoring=True) == {AUTOSCALER, PROMETHEUS, GRAFANA}
    state = swarm.services("galaxy")[AUTOSCALER]
    assert state.version > version
    assert state.environment["SWARM_RUNNER_METRICS"] == "0.0.0.0:9780"

    assert command.up(autoscale=False) == {OBSERVER, PROMETHEUS, GRAFANA}
    environment = swarm.services("galaxy")[OBSERVER].environment
    assert environment["SWARM_RUNNER_OBSERVE_ONLY"] == "1"
    assert command.up(autoscale=True) == {AUTOSCALER, PROMETHEUS, GRAFANA}


def test_an_upgrade_leaves_the_metrics_on(command: Command, swarm: FakeSwarm) -> None:
    command.up(autoscale=True, monitoring=True)
    command.provisioner(POOL).upgrade("pool:2")
    assert "SWARM_RUNNER_METRICS" in swarm.services("galaxy")[AUTOSCALER].environment


def test_without_a_password_there_is_no_grafana(command: Command) -> None:
    assert command.up(PLAIN, monitoring=True) == {OBSERVER, PROMETHEUS}
    assert "grafana_password_secret" in "; ".join(command.messages)


def test_an_image_that_cannot_be_had_changes_nothing(
    command: Command, swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pool_image(image: str | None, *_: object, **__: bool) -> str:
        if image == POOL.monitoring.grafana_image:
            raise PreconditionError(f"pulling {image}: no such host")
        return image or "pool:1"

    command.up()
    monkeypatch.setattr(swarm, "pool_image", pool_image)
    before = swarm.services("galaxy").keys()
    with pytest.raises(PreconditionError, match=r"no such host; .*pool\.monitoring\.grafana_image"):
        command.up(monitoring=True)
    assert swarm.services("galaxy").keys() == before
    assert swarm.configs("galaxy") == set()


def test_one_that_does_not_run_is_a_warning(command: Command, swarm: FakeSwarm) -> None:
    swarm.start_errors[PROMETHEUS] = "exec: --config.file: not found"
    command.up(monitoring=True)
    provisioner = command.provisioner(POOL)
    provisioner.status()
    status = provisioner.status()

    (warning,) = status.warnings
    assert warning.startswith(f"service {PROMETHEUS} does not run: the previous task failed: exec:")
    assert status.problems == ()


def test_down_removes_all_of_it(command: Command, swarm: FakeSwarm) -> None:
    command.up(monitoring=True)
    command.provisioner(POOL).down()
    assert swarm.services("galaxy") == {}
    assert swarm.configs("galaxy") == set()


def test_a_stack_of_another_tool_is_left_alone(command: Command) -> None:
    services = {"manager": "m", "normal": "n"}
    with pytest.raises(InvalidInputError, match="`pool watch` instead"):
        command.up(POOL.model_copy(update={"services": services}), monitoring=True)


def test_what_is_published_and_what_is_secret() -> None:
    stack = Stack(pool=POOL, image="pool:1", node_id="node", monitored=True)
    result = monitoring_stack(stack, FILES, "node", observer_image=None)
    prometheus, grafana = result.services
    assert (prometheus.port, prometheus.secrets) == (None, ())
    assert prometheus.image == "registry.example/prometheus:1"
    assert "--web.listen-address=0.0.0.0:9090" in prometheus.arguments
    (secret,) = grafana.secrets
    assert (grafana.port, secret.name, secret.target) == (
        3000,
        "grafana",
        grafana.environment["GF_SECURITY_ADMIN_PASSWORD__FILE"],
    )
    assert all(len(name) <= 64 for name in result.configs)
    assert {spec.node_id for spec in result.services} == {"node"}


def test_the_provisioned_files() -> None:
    settings = Monitoring(alertmanagers=("a:9093",), prometheus_port=9999)
    stack = Stack(pool=POOL.model_copy(update={"monitoring": settings}), image="", node_id="")
    document = prometheus_config(stack, "service")
    (scrape,) = document["scrape_configs"]
    # The alert on an unreachable daemon names the job.
    assert scrape["job_name"] == "swarm-runner"
    assert scrape["static_configs"] == [{"targets": ["service:9780"]}]
    (managers,) = document["alerting"]["alertmanagers"]
    assert managers["static_configs"] == [{"targets": ["a:9093"]}]
    (source,) = grafana_datasources(stack)["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", f"http://{PROMETHEUS}:9999")


def test_each_file_is_where_its_reader_looks() -> None:
    stack = Stack(pool=POOL, image="pool:1", node_id="node", monitored=True)
    result = monitoring_stack(stack, FILES, "node", observer_image=None)
    targets = {
        config.target: result.configs[config.name]
        for spec in result.services
        for config in spec.configs
    }
    prometheus = yaml.safe_load(targets["/etc/prometheus/prometheus.yml"])
    assert [targets[file] for file in prometheus["rule_files"]] == [FILES[RULES_FILE]]
    provider = yaml.safe_load(targets["/etc/grafana/provisioning/dashboards/provider.yml"])
    (dashboards,) = [p["options"]["path"] for p in provider["providers"]]
    assert targets[f"{dashboards}/{DASHBOARD_FILE}"] == FILES[DASHBOARD_FILE]
    sources = targets["/etc/grafana/provisioning/datasources/swarm-runner.yml"]
    assert yaml.safe_load(sources)["apiVersion"] == 1

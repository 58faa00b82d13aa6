from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from swarm_runner.cli import factories
from swarm_runner.testing.swarm import FakeSwarm
from tests.unit.cli.conftest import JOB_CONF, Cli

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("job_conf", "swarm")


def test_up_reports_its_steps_and_ends_with_the_table(cli: Cli) -> None:
    done = cli("pool", "up")
    assert done.code == 0
    assert "creating service galaxy_htcondor-executor-big" in done.err.splitlines()
    assert "galaxy_htcondor-executor  class normal, 2 of 2 ready" in done.out.splitlines()
    assert "1024 MB" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_up_creates_a_swarm_only_with_init(cli: Cli, swarm: FakeSwarm) -> None:
    swarm.in_swarm = False
    refused = cli("pool", "up")
    assert refused.code == 3
    assert "--init" in refused.err
    assert cli("pool", "up", "--init").code == 0


def test_status_as_json_is_the_model(cli: Cli) -> None:
    cli("pool", "up")
    done = cli("pool", "status", "--json")
    assert done.err == ""
    assert done.data["replicas"] == {"normal": 2, "big": 1}
    assert [line["memory_mb"] for line in done.data["executors"]] == [1024, 1024, 2048]


def test_status_lists_problems_with_their_task(cli: Cli, swarm: FakeSwarm) -> None:
    cli("pool", "up")
    swarm.start_errors["galaxy_htcondor-executor"] = "no suitable node"
    assert cli("pool", "scale", "normal=3", "--timeout", "1").code == 1
    lines = cli("pool", "status").out.splitlines()
    assert "galaxy_htcondor-executor  class normal, 2 of 3 ready" in lines
    problem = lines[lines.index("problems") + 1]
    assert problem.startswith("  task task0")
    assert "no suitable node" in problem


def test_status_without_a_pool_is_refused(cli: Cli) -> None:
    done = cli("pool", "status")
    assert done.code == 1
    assert done.err.startswith("error: there is no pool galaxy")


def test_an_unreachable_engine_has_its_code(cli: Cli, swarm: FakeSwarm) -> None:
    swarm.reachable = False
    for arguments in (["up"], ["status"], ["scale", "normal=1"], ["down"]):
        done = cli("pool", *arguments)
        assert (done.code, done.out) == (3, "")
        assert done.err.startswith("error: the Docker engine does not answer")


def test_scale_waits_and_shows_the_slots(cli: Cli) -> None:
    cli("pool", "up")
    done = cli("pool", "scale", "normal=5", "big=2", "--json")
    assert done.code == 0
    assert done.data["replicas"] == {"normal": 5, "big": 2}
    assert len(done.data["executors"]) == 7


def test_scale_reports_every_wrong_argument_and_scales_nothing(cli: Cli) -> None:
    cli("pool", "up")
    done = cli("pool", "scale", "big=2", "norml=5", "normal", "big=-1", "big=3", "normal=²")
    assert done.code == 2
    lines = done.err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        *("norml=5", "normal", "big=-1", "big=3", "normal=²"),
    ]
    assert "did you mean normal?" in lines[0]
    assert cli("pool", "status", "--json").data["replicas"]["big"] == 1
    assert cli("pool", "scale", "normal=21").code == 2
    assert cli("pool", "scale").code == 2


def test_a_wait_that_runs_out_is_refused_with_what_it_waited_for(
    cli: Cli, swarm: FakeSwarm
) -> None:
    cli("pool", "up")
    status = cli("pool", "status", "--json").data
    swarm.busy_tasks.add(status["executors"][0]["task"])
    done = cli("pool", "scale", "normal=0", "--timeout", "1")
    assert done.code == 1
    assert "normal: 1 draining, until job 1.0 ends" in done.err.splitlines()[-1]
    table = cli("pool", "status").out
    assert "class normal, 0 of 0 ready, 1 draining" in table
    assert "Retiring" in table
    assert "of galaxy_htcondor-executor stays until job 1.0 ends" in table


def test_status_shows_which_job_will_be_vacated_and_when(cli: Cli, swarm: FakeSwarm) -> None:
    cli("pool", "up")
    task = cli("pool", "status", "--json").data["executors"][0]["task"]
    swarm.busy_tasks.add(task)
    swarm.vacated_at[task] = 1767312000.0
    assert cli("pool", "scale", "normal=0", "--timeout", "1").code == 1
    [line] = [e for e in cli("pool", "status", "--json").data["executors"] if e["task"] == task]
    assert line["vacated_at"] == 1767312000.0
    table = " ".join(cli("pool", "status").out.split())
    assert "stays until job 1.0 ends (vacated at 2026-01-02 00:00:00 UTC at the latest)" in table


def test_down_refuses_while_jobs_run(cli: Cli, swarm: FakeSwarm) -> None:
    cli("pool", "up")
    swarm.busy_tasks.add("task00000001")
    refused = cli("pool", "down")
    assert refused.code == 1
    assert "--drain" in refused.err
    assert "--force" in refused.err
    assert cli("pool", "down", "--drain", "--force").code == 2
    assert cli("pool", "down", "--force").code == 0
    assert swarm.services("galaxy") == {}


def test_down_as_json(cli: Cli) -> None:
    cli("pool", "up")
    assert cli("pool", "down", "--json").data == {"pool": "galaxy", "removed": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["up"], "pool down` removes it"),
        (["scale", "normal=5"], "no job is lost"),
        (["down"], "what is left"),
    ],
)
def test_an_interrupt_reports_what_continues(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(factories, "provisioner", interrupted)
    done = cli("pool", *arguments)
    assert (done.code, done.out) == (130, "")
    assert message in done.err


def test_render_writes_a_compose_file(cli: Cli, tmp_path: Path) -> None:
    refused = cli("pool", "render", "--node", "swarm-1")
    assert (refused.code, refused.out) == (2, "")
    assert "pool.image" in refused.err
    file = tmp_path / "named.yml"
    file.write_text(JOB_CONF.replace("name: galaxy", "name: galaxy\n      image: 'r:5000/pool:1'"))
    done = cli("pool", "render", "--node", "swarm-1", "--job-conf", str(file))
    assert done.code == 0
    assert list(yaml.safe_load(done.out)["services"]) == [
        *("htcondor", "htcondor-executor", "htcondor-executor-big"),
    ]
    as_json = cli("pool", "render", "--node", "swarm-1", "--job-conf", str(file), "--json")
    assert as_json.data == yaml.safe_load(done.out)


def test_an_upgrade_reports_what_to_write_in_the_configuration(cli: Cli) -> None:
    cli("pool", "up")
    done = cli("pool", "upgrade", "--image", "registry/pool:2")
    assert done.code == 0
    assert "upgrading galaxy_htcondor, one task after the other" in done.err.splitlines()
    assert "Write image: registry/pool:2 in the configuration" in done.err
    assert "2 of 2 ready" in done.out


def test_an_upgrade_that_fails_has_its_code(cli: Cli, swarm: FakeSwarm) -> None:
    cli("pool", "up")
    swarm.start_errors["registry/broken:1"] = "task: non-zero exit (7)"
    done = cli("pool", "upgrade", "--image", "registry/broken:1")
    assert (done.code, done.out) == (1, "")
    assert "rolled back" in done.err.splitlines()[-1]
    assert cli("pool", "status").code == 0


def test_an_upgrade_as_json_is_the_status(cli: Cli) -> None:
    cli("pool", "up")
    assert cli("pool", "upgrade", "--json").data["replicas"] == {"normal": 2, "big": 1}


def test_repair_reports_what_it_replaced(cli: Cli, swarm: FakeSwarm) -> None:
    cli("pool", "up")
    unhealthy = cli("pool", "status", "--json").data["executors"][0]["task"]
    swarm.broken_reasons[unhealthy] = "no disk"
    shown = cli("pool", "mend", "--dry-run")
    assert shown.code == 0
    assert f"normal executor {unhealthy} on swarm-1: broken slot: no disk" in shown.err.splitlines()
    done = cli("pool", "mend", "--json")
    assert [(m["task"], m["action"]) for m in done.data["mended"]] == [(unhealthy, "draining")]
    assert unhealthy not in {line["task"] for line in done.data["status"]["executors"]}
    assert cli("pool", "mend").err.endswith("0 executors replaced.\n")


def test_status_shows_how_vms_run(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare the line that the tutorial shows, with its own configuration."""
    monkeypatch.setenv("SWARM_RUNNER_JOB_CONF", str(ROOT / "examples" / "vm" / "job_conf.yml"))
    tutorial = (ROOT / "docs" / "virtual-machines.md").read_text()
    [shown] = re.findall(r"^    (machines_htcondor-executor-vm .*)$", tutorial, re.MULTILINE)
    assert "emulated" in shown
    cli("pool", "up")
    assert shown in cli("pool", "status").out.splitlines()
    # Without emulation, and a node without KVM.
    text = (ROOT / "examples" / "vm" / "job_conf.yml").read_text()
    (tmp_path / "kvm.yml").write_text(
        text.replace(", emulate: true", "").replace("name: machines", "name: k")
    )
    monkeypatch.setenv("SWARM_RUNNER_JOB_CONF", str(tmp_path / "kvm.yml"))
    assert cli("pool", "up", "--timeout", "1").code == 1
    lines = cli("pool", "status").out.splitlines()
    assert "k_htcondor-executor-vm  class vm, 0 of 1 ready" in lines
    assert "no virtual machines: " in lines[lines.index("problems") + 1]


def test_the_file_of_the_last_pool_up_is_used_without_one(
    cli: Cli, job_conf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cli("pool", "up")
    monkeypatch.delenv("SWARM_RUNNER_JOB_CONF")
    done = cli("pool", "status")
    assert done.err.startswith(f"Using {job_conf}, the file of the last `pool up`.")
    assert "galaxy_htcondor-executor " in done.out
    other = tmp_path / "other.yml"
    other.write_text(JOB_CONF.replace("name: galaxy", "name: other"))
    assert "there is no pool other" in cli("pool", "status", "--job-conf", str(other)).err
    # Removing another pool does not affect this one.
    cli("pool", "up", "--job-conf", str(other))
    cli("pool", "up", "--job-conf", str(job_conf))
    cli("pool", "down", "--job-conf", str(other))
    assert cli("pool", "status").code == 0
    assert cli("pool", "down").code == 0
    assert "there is no pool swarm-runner" in cli("pool", "status").err


def test_a_configuration_that_somebody_put_there_stays(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "config" / "swarm-runner" / "job_conf.yml"
    own.parent.mkdir(parents=True)
    own.write_text(JOB_CONF.replace("name: galaxy", "name: mine"))
    cli("pool", "up")
    cli("pool", "down")
    monkeypatch.delenv("SWARM_RUNNER_JOB_CONF")
    assert "there is no pool mine" in cli("pool", "status").err


def test_monitoring_files_are_written_once_and_never_overwritten(cli: Cli, tmp_path: Path) -> None:
    directory = tmp_path / "a" / "monitoring"
    for _ in range(2):
        assert cli("pool", "monitoring", str(directory)).code == 0
    names = ["alerts.yml", "grafana-dashboard.json", "prometheus.yml"]
    assert sorted(file.name for file in directory.iterdir()) == names
    (directory / "alerts.yml").write_text("groups: []\n")
    done = cli("pool", "monitoring", str(directory))
    assert done.code == 2
    assert "alerts.yml: exists with other contents" in done.err
    assert (directory / "alerts.yml").read_text() == "groups: []\n"


def test_images_are_pulled_on_every_node(cli: Cli, swarm: FakeSwarm) -> None:
    assert cli("pool", "images", "pull", "debian:12").code == 1  # there is no pool yet
    cli("pool", "up")
    done = cli("pool", "images", "pull", "debian:12", "busybox")
    assert (done.code, done.err) == (0, "2 images on 1 node.\n")
    assert [line.split() for line in done.out.splitlines()[1:]] == [
        ["swarm-1", "debian:12", "1.0", "s", "100", "MB"],
        ["swarm-1", "busybox", "1.0", "s", "100", "MB"],
    ]
    image, arguments = swarm.image_commands[-1]
    assert image.startswith("swarm-runner-pool:")
    assert arguments == ("pull", "debian:12", "busybox")


def test_unused_images_are_removed(cli: Cli, swarm: FakeSwarm) -> None:
    cli("pool", "up")
    done = cli("pool", "images", "prune", "--unused-days", "0.5", "--json")
    assert done.code == 0
    assert swarm.image_commands[-1][1] == ("prune", "43200.0")
    assert done.data["nodes"][0]["images"][0]["name"] == "debian:trixie"


def test_a_node_that_does_not_answer_is_reported(cli: Cli, swarm: FakeSwarm) -> None:
    cli("pool", "up")
    swarm.unreachable_nodes = ["swarm-2"]
    done = cli("pool", "images", "prune")
    assert done.code == 1
    assert "swarm-2: did not end within 300 s" in done.err

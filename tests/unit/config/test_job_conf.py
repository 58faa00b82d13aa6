from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from swarm_runner.config.job_conf import JobConf, parse_job_conf
from swarm_runner.errors import InvalidInputError
from swarm_runner.model.pool import Pool
from swarm_runner.model.resources import Resources

GOLDEN = Path(__file__).parents[1] / "golden"
DESIGN = """\
runners:
  swarm:
    load: swarm_runner_galaxy.runner:SwarmJobRunner   # Read by Galaxy; ignored elsewhere
    workers: 4
    pool:
      name: galaxy
      classes:
        normal: {cpus: 1, memory_mb: 1024, replicas: 2, max_replicas: 20}
        big:    {cpus: 1, memory_mb: 2048, replicas: 1, max_replicas: 4}
execution:
  default: swarm
  environments:
    swarm: {runner: swarm, docker_enabled: true, request_memory: 512}
"""


def read(text: str) -> JobConf:
    return parse_job_conf(dedent(text), "job_conf.yml")


def diagnostics(text: str) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        read(text)
    return [str(diagnostic) for diagnostic in caught.value.diagnostics]


def test_the_designs_example() -> None:
    destination = read(DESIGN).destination()
    assert destination.name == "swarm"
    assert destination.runner == "swarm"
    assert destination.pool == Pool(name="galaxy")
    assert destination.resources == Resources(memory_mb=512)
    assert destination.resources.model_fields_set == {"memory_mb"}


def test_a_pool_without_details_is_the_default_one() -> None:
    conf = read("""
        runners: {swarm: {pool: }}
        execution: {environments: {swarm: {runner: swarm}}}
    """)
    assert conf.destination().pool == Pool()
    assert conf.destination().resources is None


def test_all_our_keys() -> None:
    conf = read("""
        runners:
          swarm:
            load: swarm_runner_galaxy.runner:SwarmJobRunner
            workers: 8
            name: galaxy-main
            state_directory: /var/lib/swarm-runner
            token_directory: /etc/swarm-runner/tokens
            lease_s: 300
            recheck_missing_job_retries: 3
            pool:
              name: p
              image: registry:5000/pool:1
              host: 10.0.0.1
              port: 9619
              user: {name: galaxy, uid: 1450, gid: 1451}
              volumes: [/galaxy, "/refdata:ro"]
              pull: always
              classes:
                normal: {cpus: 2, memory_mb: 4096, disk_mb: 10000, gpus: 0}
                huge: {cpus: 8, memory_mb: 65536, disk_mb: 10000, gpus: 1, replicas: 0}
        execution:
          default: long
          environments:
            long:
              runner: swarm
              request_cpus: 4
              request_memory: 4 GB
              max_memory: 32G
              request_disk: 5000
              request_gpus: 0
              time_limit_s: 86400
              capacity_class: huge
              docker_default_container_id: debian:trixie
    """)
    destination = conf.destination()
    assert destination.lease_s == 300
    assert destination.state_directory == "/var/lib/swarm-runner"
    assert destination.token_directory == "/etc/swarm-runner/tokens"  # noqa: S105
    assert destination.default_image == "debian:trixie"
    assert destination.capacity_class == "huge"
    assert destination.resources == Resources(
        cpus=4,
        memory_mb=4096,
        max_memory_mb=32768,
        disk_mb=5000,
        gpus=0,
        time_limit_s=86400,
    )
    pool = destination.pool
    assert pool.address == "10.0.0.1:9619"
    assert (pool.pull, pool.image) == ("always", "registry:5000/pool:1")
    assert pool.user.uid == 1450
    assert [volume.read_only for volume in pool.volumes] == [False, True]


def test_what_is_galaxys_or_another_runners_is_ignored() -> None:
    conf = read("""
        x-shared: &docker {docker_enabled: true, docker_volumes: $defaults}
        runners:
          local: {load: "galaxy.jobs.runners.local:LocalJobRunner", workers: 4}
          k8s: {load: "galaxy.jobs.runners.kubernetes:KubernetesJobRunner", k8s_namespace: x}
          off: {load: "swarm_runner_galaxy.runner:SwarmJobRunner", enabled: false, nonsense: 1}
          swarm: {load: "swarm_runner_galaxy.runner:SwarmJobRunner", pool: {}}
        handling: {assign: [db-skip-locked], processes: {handler0: }}
        execution:
          default: tpv
          environments:
            tpv: {runner: dynamic, type: python, rules_module: tpv.rules}
            tpv2: {runner: dynamic_tpv}
            local: {runner: local, local_slots: 4, request_memory: [nonsense]}
            retired: {runner: gone, enabled: "no"}
            swarm:
              <<: *docker
              runner: swarm
              request_memory: 1G
              docker_memory: 24G
              docker_env_LC_ALL: C
              singularity_enabled: false
              escalation: galaxy
              htcondor_+Group: '"galaxy"'
              require_container: true
              container_monitor: false
              tags: [mine]
              shell: /bin/sh
              metrics: []
              tmp_dir: true
              embed_metadata_in_job: false
              env: [{name: A, value: b}]
              resubmit: [{condition: memory_limit_reached, environment: swarm}]
              max_accepted_cores: 16
        tools: [{id: bwa, environment: swarm}, {class: local, environment: local}]
        limits: [{type: registered_user_concurrent_jobs, value: 2}]
        resources: {default: default, groups: {default: []}}
    """)
    assert list(conf.destinations) == ["swarm"]
    assert conf.default == "tpv"
    assert conf.destination().resources == Resources(memory_mb=1024)
    assert conf.destination("swarm") == conf.destination()


def test_environments_may_be_a_list_with_ids() -> None:
    conf = read("""
        runners: {swarm: {pool: {}}}
        execution: {environments: [{id: a, runner: swarm}, {id: b, runner: swarm}], default: b}
    """)
    assert conf.destination().name == "b"
    assert conf.destination("a").name == "a"


def test_a_default_may_be_a_tag() -> None:
    conf = read("""
        runners: {swarm: {pool: {}}}
        execution: {environments: {a: {runner: swarm, tags: "x, mine"}}, default: mine}
    """)
    assert conf.destination().name == "a"


def test_json_is_taken() -> None:
    text = '{"runners": {"s": {"pool": {}}}, "execution": {"environments": {"e": {"runner": "s"}}}}'
    assert parse_job_conf(text, "job_conf.json").destination().name == "e"


TWO = """
    runners: {swarm: {pool: {}}}
    execution: {environments: {one: {runner: swarm}, two: {runner: swarm}}}
"""


def test_without_a_default_the_environment_must_be_named() -> None:
    with pytest.raises(InvalidInputError, match="name one of the destinations one, two"):
        read(TWO).destination()


def test_an_unknown_destination_is_refused_with_what_is_close() -> None:
    expected = r"'twoo' of swarm_runner; it has one, two; did you mean two\?"
    with pytest.raises(InvalidInputError, match=expected):
        read(TWO).destination("twoo")


def test_every_problem_is_reported_with_its_line_and_column() -> None:
    found = diagnostics((GOLDEN / "job_conf_wrong.yml").read_text())
    assert found == (GOLDEN / "job_conf_wrong.txt").read_text().splitlines()


ENVIRONMENT = "runners: {s: {pool: {}}}\nexecution: {environments: {e: {runner: s, %s}}}\n"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ('request_memory: "8"', "e.request_memory: is 8 MB, but a container needs at least 16 MB"),
        ("request_memory: -1", "e.request_memory: needs MB as a number, or a number with a unit"),
        ("request_memory: 1e9", "e.request_memory: must be at most 67108864"),
        ("request_memory: .nan", "e.request_memory: needs MB as a number"),
        ('request_disk: "-10"', "e.request_disk: needs MB as a number"),
        ("request_cpus: -1.5", "e.request_cpus: must be at least 1"),
        ("params: {request_cpus: many}", "e.params.request_cpus: needs a number of CPUs"),
        ("escalation: schedd", "e.escalation: is schedd, which requires max_memory"),
        ("htcondor_universe: vanilla", "e.htcondor_universe: is set by the runner itself"),
        ("request_disk: 0", "e.request_disk: must be at least 1, not the number 0"),
        ("request_cpus: many", "e.request_cpus: needs a number of CPUs, such as 4, not 'many'"),
        ("time_limit_s: 0", "e.time_limit_s: must be at least 1"),
        (
            "docker_default_container_id: A B",
            "e.docker_default_container_id: 'A B' is not a valid image",
        ),
        (
            "capacity_class: bigg",
            "e.capacity_class: 'bigg' is not a class of pool swarm-runner (normal: 1 cpu",
        ),
        ("request_memory: 4 GB", "4096 MB memory, 1024 MB disk, which fits no class; the pool has"),
        ("max_memory: 4 GB", "e: has max_memory 4096 MB, which fits no class; the pool has normal"),
        ("request_memory: 2 GB, capacity_class: normal", "fits no class"),
        ("request_memory: 2G, max_memory: 1G", "e.max_memory: is 1024 MB, less than"),
    ],
)
def test_what_an_environment_cannot_say(setting: str, says: str) -> None:
    [found] = diagnostics(ENVIRONMENT % setting)
    assert found.startswith("job_conf.yml:2:")
    assert says in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "job_conf.yml: is not a job_conf; it needs the key runners"),
        ("[1]", "job_conf.yml:1:1: is not a job_conf"),
        ("runers: {}\nexecution: {environments: {}}", "runners: is missing; did you mean runers?"),
        ("runners: {}", "job_conf.yml:1:1: runners: has no runner of swarm_runner; add one with"),
        ("<?xml version='1.0'?>\n<job_conf/>", "is XML, which swarm_runner does not read"),
        (
            "galaxy: {job_config_file: job_conf.yml}",
            "1:10: galaxy.job_config_file: is another file, 'job_conf.yml'",
        ),
        ("galaxy: {job_config: {runners: 1}}", "1:23: galaxy.job_config.runners: needs keys"),
        ("runners: {s: {pool: {}, kwds: {}, load: swarm_runner}}", "s.kwds.pool: is missing"),
        ("runners: {s: {lease_s: 99, kwds: {pool: {}}}}", "lease_s: is ignored by Galaxy beside"),
        ("runners: []\nexecution: {environments: {}}", "1:1: runners: needs keys and values"),
        ("runners: {s: {pool: {}}}\nexecution: {environments: 1}", "s: needs keys and values"),
        ("runners: {s: {pool: {}}}\nexecution: {environments: {e: 1}}", "e: needs keys and values"),
        (
            "runners: {s: {pool: {}}}\nexecution: {environments: [{runner: s}]}",
            "2:28: execution.environments[0]: needs an id",
        ),
        (
            "runners: {l: {load: x}}\nexecution: {environments: {e: {runner: l}}}",
            "has no runner of swarm_runner; add one with a pool",
        ),
        (
            "runners: {s: {pool: {classes: {a: {memory_mb: 99}, a: {memory_mb: 100}}}}}",
            "1:52: a is a duplicate of the key in line 1",
        ),
        (
            "runners: {s: {pool: 5}}\nexecution: {environments: {e: {runner: s}}}",
            "1:15: runners.s.pool: needs keys and values, not the number 5",
        ),
    ],
)
def test_what_is_not_a_job_conf(text: str, says: str) -> None:
    assert any(says in found for found in diagnostics(text)), diagnostics(text)


def test_a_runner_alone_is_a_destination() -> None:
    conf = read("""
        runners:
          local: {load: "galaxy.jobs.runners.local:LocalJobRunner", workers: "2"}
          swarm: {load: "swarm_runner_galaxy.runner:SwarmJobRunner", workers: "4", pool: {name: p}}
        execution:
          default: tpv
          environments:
            local: {runner: local}
            none: {docker_enabled: true}
            tpv: {runner: dynamic_tpv, tpv_config_files: [tpv.yml]}
    """)
    assert conf.default == "tpv"
    assert conf.destination() == conf.destination("swarm")
    assert conf.destination().pool.name == "p"
    assert (conf.warnings, conf.ignored) == ((), ())


@pytest.mark.parametrize("head", ["", "job_config:", "galaxy:\n  data_dir: /d\n  job_config:"])
def test_the_place_of_the_configuration(head: str) -> None:
    indent = "    " if head else ""
    lines = [f"{indent}{line}" for line in DESIGN.splitlines()]
    conf = read("\n".join([head, *reversed_sections(lines)]))
    assert conf == JobConf(conf.source, read(DESIGN).destinations, "swarm")


def reversed_sections(lines: list[str]) -> list[str]:
    """`execution` before `runners`: the order of keys does not matter."""
    position = next(number for number, line in enumerate(lines) if "execution:" in line)
    return lines[position:] + lines[:position]


def test_parameters_as_galaxy_nests_them() -> None:
    conf = read("""
        runners: {swarm: {workers: 2, kwds: {pool: {}, lease_s: "90"}}}
        execution:
          environments:
            - id: a
              runner: swarm
              request_cpus: 9
              params: {request_cpus: "1.0", request_memory: "900.0", enabled: "true"}
            - {id: b, runner: swarm, params: {enabled: false, request_memory: [wrong]}}
    """)
    assert list(conf.destinations) == ["a"]
    assert conf.destination().lease_s == 90
    assert conf.destination().resources == Resources(cpus=1, memory_mb=900)
    [warning] = conf.warnings
    assert warning.message == "is ignored by Galaxy beside params; move it into params"
    assert warning.path == "execution.environments[0].request_cpus"


def test_foreign_keys_are_ignored_and_slips_are_warnings() -> None:
    conf = read(ENVIRONMENT % "submit_request_gpus: 1, k8s_walltime_limit: 9, request_memroy: 1G")
    [ignored] = conf.ignored
    expected = "ignores keys of other programs: submit_request_gpus, k8s_walltime_limit"
    assert ignored.message == expected
    [warning] = conf.warnings
    assert (warning.line, warning.message) == (2, "is ignored; did you mean request_memory?")


def test_a_problem_of_a_runner_is_reported_once_for_all_its_environments() -> None:
    found = diagnostics("""
        runners: {s: {pool: {port: 0}}}
        execution: {environments: {a: {runner: s}, b: {runner: s}}}
    """)
    assert found == ["job_conf.yml:2:22: runners.s.pool.port: must be at least 1, not the number 0"]


def test_the_references_examples_are_read() -> None:
    reference = Path(__file__).parents[3] / "docs" / "reference" / "job_conf.md"
    examples = re.findall(r"^```yaml\n(.*?)^```", reference.read_text(), re.DOTALL | re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        assert parse_job_conf(example, reference.name).destination()

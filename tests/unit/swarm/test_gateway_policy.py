"""The decisions of the executor's gateway, over requests as HTCondor writes them."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from typing import Any

import pytest
from gateway_policy import (
    CONTAINER_VARIABLE,
    REFUSED,
    TEMPORARY_DIRECTORIES,
    DeniedError,
    ImageFacts,
    Settings,
    Volume,
    container,
    full_name,
    message,
)
from gateway_requests import BadRequestError, parse_create
from hypothesis import given
from hypothesis import strategies as st

PARENT = "/vol/_data/abc"
SCRATCH = f"{PARENT}/dir_42"
SETTINGS = Settings(
    uid=1000,
    gid=1001,
    memory_mb=1024,
    volumes=(Volume("/data"), Volume("/refs", read_only=True), Volume("/big", on_request=True)),
)
IMAGE = ImageFacts("sha256:1", "amd64")
NODE_ADDRESS = "10.0.0.7"
PORTS = dataclasses.replace(SETTINGS, network="bridge", ports="node")
WEB = {"ports": {"web": 8888, "api": 80}}


def arguments(
    *options: str,
    image: str = "debian:trixie",
    command: tuple[str, ...] = ("/bin/true",),
    **changes: str,
) -> list[str]:
    """Return the arguments of `docker create` that HTCondor 25.14 writes for a job."""
    given_options = {"user": "1000:1001", "workdir": f"{SCRATCH}/scratch", "memory": "128m"}
    given_options |= changes
    return [
        *("--cpu-shares=100", f"--memory={given_options['memory']}", "--cap-drop=all"),
        *("--cap-add=SYS_PTRACE", "--security-opt", "no-new-privileges", "--init"),
        *("--name", "HTCJob1_0_slot1_1_PID42", "--label=org.htcondorproject=True"),
        *("--log-driver", "none", "-e", "A=b=c", "--volume", f"{SCRATCH}:{SCRATCH}"),
        *("--workdir", given_options["workdir"], "--user", given_options["user"]),
        *("--group-add", "1001", "--hostname", "user-1.0-host"),
        *options,
        image,
        *command,
    ]


def decide(
    *options: str,
    settings: Settings = SETTINGS,
    facts: ImageFacts = IMAGE,
    links: dict[str, str] | None = None,
    container_options: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Return the container that a job gets. `links` are links of the node."""

    def resolve(path: str) -> str:
        for link, target in (links or {}).items():
            if path == link or path.startswith(f"{link}/"):
                return posixpath.normpath(target + path[len(link) :])
        return path

    if container_options is not None:
        options = ("-e", f"{CONTAINER_VARIABLE}={json.dumps(container_options)}", *options)
    request = parse_create(arguments(*options, **changes))
    labels = {"label": "x"}
    return container(request, settings, facts, PARENT, labels, resolve, lambda: NODE_ADDRESS)


def refusal(*options: str, **changes: Any) -> str:
    with pytest.raises(DeniedError) as error:
        decide(*options, **changes)
    return str(error.value)


def test_what_every_job_gets() -> None:
    body = decide()
    host = body["HostConfig"]
    assert (body["User"], body["Cmd"], body["Image"]) == (
        "1000:1001",
        ["/bin/true"],
        "debian:trixie",
    )
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], [])
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["NetworkMode"] == "none"
    assert host["Memory"] == host["MemorySwap"] == 128 * 2**20
    assert (host["PidsLimit"], host["ShmSize"]) == (4096, 64 * 2**20)
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 65_536, "Hard": 65_536}]
    assert host["ReadonlyRootfs"] is False
    assert not {"PortBindings", "Devices", "Privileged", "PidMode", "IpcMode"} & host.keys()
    mounts = {mount["Target"]: (mount["Source"], mount["ReadOnly"]) for mount in host["Mounts"]}
    assert mounts == {
        SCRATCH: (SCRATCH, False),
        **{path: (f"{SCRATCH}/.swarm-runner{path}", False) for path in TEMPORARY_DIRECTORIES},
        "/data": ("/data", False),
        "/refs": ("/refs", True),
    }
    assert set(body["Env"]) == {"A=b=c", f"HOME={SCRATCH}/.swarm-runner/home"}


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        (["--volume", "/home:/home"], "volumes: /data"),
        (["--volume", "/:/"], "volumes"),
        (["--volume", "/run:/data"], "each at its own path"),
        (["--volume", "/data/../etc:/data/../etc"], "each at its own path"),
        (["--volume", "//data://data"], "each at its own path"),
        (["--volume", f"{SCRATCH}/../dir_43:{SCRATCH}/../dir_43"], "each at its own path"),
        (["--volume", f"{PARENT}/dir_43:{PARENT}/dir_43"], "not on any of the pool's volumes"),
        (["--volume", f"{SCRATCH}/x:/etc"], "each at its own path"),
        (["--volume", "name:/data"], "each at its own path"),
        (["--network=host"], "isolation.networks; never host"),
        (["--network=container:abc"], "isolation.networks"),
        (["--network=bridge"], "isolation.network"),
        (["-p", "80"], "published port"),
        (["--device", "/dev/kmsg"], "no devices"),
        (["--group-add", "0"], "user.gid"),
        (["--shm-size", "1"], "shm_mb"),
    ],
)
def test_what_an_ad_may_not_add(options: list[str], setting: str) -> None:
    assert setting in refusal(*options)


@pytest.mark.parametrize("user", ["0:0", "0:1001", "1000:0", "1000", "2000:1001", "root"])
def test_another_user_is_refused(user: str) -> None:
    assert "user.uid" in refusal(user=user)


def test_a_pool_whose_user_is_root_runs_no_jobs() -> None:
    root = dataclasses.replace(SETTINGS, uid=0, gid=0)
    assert "never as 0" in refusal(user="0:0", settings=root)


@pytest.mark.parametrize("memory", ["0m", "-1m", "128", "2048m", "1g", "m"])
def test_a_job_has_a_memory_limit_within_its_executors(memory: str) -> None:
    assert "memory" in refusal(memory=memory)


@pytest.mark.parametrize(
    "option", ["--privileged", "--pid=host", "--cap-add=SYS_ADMIN --x", "--mount", "--userns=host"]
)
def test_an_unknown_option_is_no_request(option: str) -> None:
    with pytest.raises(BadRequestError):
        parse_create([*option.split(), *arguments()])


def test_capabilities_are_never_taken_from_the_request() -> None:
    assert decide("--cap-add=SYS_ADMIN")["HostConfig"]["CapAdd"] == []


def test_a_directory_on_a_volume_gets_no_mount_of_its_own() -> None:
    body = decide("--volume", "/data/run:/data/run", workdir="/data/run")
    assert body["WorkingDir"] == "/data/run"
    sources = [mount["Source"] for mount in body["HostConfig"]["Mounts"]]
    assert "/data/run" not in sources


def test_options_of_a_mount_are_the_volumes_own() -> None:
    mounts = decide("--volume", "/refs:/refs:rw,shared")["HostConfig"]["Mounts"]
    (refs,) = [mount for mount in mounts if mount["Target"] == "/refs"]
    assert refs == {"Type": "bind", "Source": "/refs", "Target": "/refs", "ReadOnly": True}
    volumes = (Volume("/cvmfs", propagation="rslave"),)
    *_, mount = decide(settings=dataclasses.replace(SETTINGS, volumes=volumes))["HostConfig"][
        "Mounts"
    ]
    assert mount["BindOptions"] == {"Propagation": "rslave"}


def test_a_directory_that_is_a_link_out_of_the_volume_is_refused() -> None:
    options = ("--volume", "/data/run:/data/run")
    text = refusal(*options, workdir="/data/run", links={"/data/run": "/etc"})
    assert "a link to '/etc'" in text
    assert "volumes: /data, /refs" in text
    # A link within the volumes, and a volume that is a link itself, are fine.
    assert decide(*options, workdir="/data/run", links={"/data/run": "/refs/x"})
    assert decide(*options, workdir="/data/run", links={"/data": "/mnt/disk3"})


def test_a_scratch_directory_that_is_a_link_is_refused() -> None:
    assert "is a link" in refusal(links={SCRATCH: "/etc"})


@pytest.mark.parametrize("directory", ["/", "/etc", "relative", "/data/../etc", "/datax"])
def test_a_directory_elsewhere_is_refused(directory: str) -> None:
    assert "volumes: /data, /refs" in refusal(workdir=directory)


def test_a_job_gets_the_volumes_that_it_names() -> None:
    targets = {
        m["Target"] for m in decide(container_options={"volumes": ["/big"]})["HostConfig"]["Mounts"]
    }
    assert "/big" in targets
    assert "/data" not in targets
    assert "does not have" in refusal(container_options={"volumes": ["/etc"]})
    in_place = ("--volume", "/data/run:/data/run")
    assert "volumes: /big" in refusal(
        *in_place, workdir="/data/run", container_options={"volumes": ["/big"]}
    )


def test_networks() -> None:
    settings = dataclasses.replace(SETTINGS, network="bridge", networks=("licences", "host"))
    for name in ("bridge", "licences", "none"):
        body = decide(settings=settings, container_options={"network": name})
        assert body["HostConfig"]["NetworkMode"] == name
        asked = decide(f"--network={name}", settings=settings)
        assert asked["HostConfig"]["NetworkMode"] == name
    assert decide(settings=settings)["HostConfig"]["NetworkMode"] == "bridge"
    assert "never host" in refusal(settings=settings, container_options={"network": "host"})


def test_shared_memory_and_tracing_within_what_is_allowed() -> None:
    assert decide(container_options={"shm_mb": 100})["HostConfig"]["ShmSize"] == 100 * 2**20
    assert "shm_mb" in refusal(container_options={"shm_mb": 129})
    assert "shm_mb" in refusal(container_options={"shm_mb": -1})
    assert "isolation.ptrace" in refusal(container_options={"ptrace": True})
    allowed = dataclasses.replace(SETTINGS, ptrace=True)
    assert decide(settings=allowed)["HostConfig"]["CapAdd"] == []
    traced = decide(settings=allowed, container_options={"ptrace": True})
    assert traced["HostConfig"]["CapAdd"] == ["SYS_PTRACE"]


@pytest.mark.parametrize(
    "container_options",
    [[], 1, {"unknown": 1}, {"shm_mb": "1"}, {"shm_mb": True}, {"volumes": [1]}],
)
def test_options_of_the_wrong_kind_are_refused(container_options: Any) -> None:
    assert CONTAINER_VARIABLE in refusal(container_options=container_options)


@given(st.text(max_size=200))
def test_options_that_are_no_json(text: str) -> None:
    if text in ("", "{}"):
        return
    with pytest.raises(DeniedError) as error:
        decide("-e", f"{CONTAINER_VARIABLE}={text}")
    assert message(error.value).startswith(REFUSED)


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        ("debian:trixie", ["debian:*"]),
        ("debian:trixie", ["docker.io/library/*"]),
        ("quay.io/biocontainers/samtools:1", ["quay.io/biocontainers/*"]),
        ("docker.io/library/debian", ["*"]),
    ],
)
def test_allowed_images(image: str, allowed: list[str]) -> None:
    decide(image=image, settings=dataclasses.replace(SETTINGS, images=tuple(allowed)))


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        ("debian:trixie", []),
        ("evil.example/debian:trixie", ["debian:*"]),
        ("evil.example/quay.io/biocontainers/x", ["quay.io/*"]),
        ("quay.io.evil.example/x", ["quay.io/*"]),
        ("quay.io/../x", ["*"]),
        ("-v", ["*"]),
        ("debian:trixie\n", ["*"]),
        ("DEBIAN", ["*"]),
    ],
)
def test_images_that_are_not_allowed(image: str, allowed: list[str]) -> None:
    settings = dataclasses.replace(SETTINGS, images=tuple(allowed))
    try:
        text = refusal(image=image, settings=settings)
    except BadRequestError:
        assert image.startswith("-")
    else:
        assert "isolation.images" in text or "not a valid image" in text


def test_a_digest_may_be_required() -> None:
    settings = dataclasses.replace(SETTINGS, require_digest=True)
    assert "isolation.require_digest" in refusal(settings=settings)
    assert decide(image=f"debian@sha256:{'0' * 64}", settings=settings)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("debian", "docker.io/library/debian"),
        ("a/b:1", "docker.io/a/b:1"),
        ("localhost/a", "localhost/a"),
        ("host:5000/a", "host:5000/a"),
    ],
)
def test_full_names(name: str, full: str) -> None:
    assert full_name(name) == full


@pytest.mark.parametrize(
    ("entrypoint", "runs"),
    [
        ((), False),
        (("/usr/bin/tini", "--"), True),
        (("/tini", "-g", "--", "/usr/local/bin/_entrypoint.sh"), True),
        (("docker-entrypoint.sh",), True),
        (("/usr/bin/cat",), False),
        (("/bin/sh", "-c"), False),
        (("tini", "--", "samtools"), False),
    ],
)
def test_an_entrypoint_runs_if_it_runs_the_command(entrypoint: tuple[str, ...], runs: bool) -> None:
    facts = dataclasses.replace(IMAGE, entrypoint=entrypoint)
    assert ("Entrypoint" not in decide(facts=facts)) is runs
    assert "Entrypoint" not in decide(facts=facts, container_options={"entrypoint": "run"})
    assert decide(facts=facts, container_options={"entrypoint": "ignore"})["Entrypoint"] == [""]
    assert "auto, run or ignore" in refusal(container_options={"entrypoint": "sh"})


def test_the_jobs_own_home_and_tmpdir_win() -> None:
    body = decide("-e", "HOME=/mine", "-e", "SWARM_RUNNER_JOB_TMPDIR=/t", "-e", "TMPDIR=/x")
    assert {"HOME=/mine", "TMPDIR=/t"} <= set(body["Env"])
    assert not any(text.startswith("SWARM_RUNNER_") for text in body["Env"])


def test_nvidia_devices_are_left_to_the_container_runtime() -> None:
    body = decide("--device", "/dev/nvidiactl", "--device", "/dev/nvidia0")
    assert "Devices" not in body["HostConfig"]


def test_the_jobs_own_command_is_no_option() -> None:
    command = ("tool", "--volume", "/etc:/etc", "--privileged", "")
    assert decide(command=command)["Cmd"] == list(command)


@pytest.mark.parametrize("text", ["é" * 600, "a\nb\x1b[31m"])
def test_a_refusal_fits_into_a_hold_reason(text: str) -> None:
    refused = message(DeniedError(refusal("--volume", f"/{text}:/{text}")))
    assert len(refused.encode()) < 511
    assert refused.isprintable()


def test_ports_are_published_on_the_nodes_address_alone() -> None:
    body = decide("-p", "8888", "-p", "80", settings=PORTS, container_options=WEB)
    assert body["ExposedPorts"] == {"8888/tcp": {}, "80/tcp": {}}
    binding = [{"HostIp": NODE_ADDRESS, "HostPort": ""}]
    assert body["HostConfig"]["PortBindings"] == {"8888/tcp": binding, "80/tcp": binding}


def test_ports_on_loopback_in_a_range() -> None:
    settings = dataclasses.replace(PORTS, ports="loopback", host_ports="30000-30999")
    body = decide("-p", "80", settings=settings, container_options={"ports": {"web": 80}})
    binding = {"HostIp": "127.0.0.1", "HostPort": "30000-30999"}
    assert body["HostConfig"]["PortBindings"] == {"80/tcp": [binding]}


@pytest.mark.parametrize(
    ("options", "changes", "expected"),
    [
        (
            ["-p", "80"],
            {"settings": SETTINGS, "container_options": {"ports": {"w": 80}}},
            "isolation.ports",
        ),
        (["-p", "80"], {"settings": SETTINGS}, "isolation.ports"),
        # The ad asks for what the submit did not, and the other way round.
        (["-p", "22"], {"container_options": {"ports": {"w": 80}}}, "'22' in its ad, and for '80'"),
        (
            ["-p", "80", "-p", "81"],
            {"container_options": {"ports": {"w": 80}}},
            "'80, 81' in its ad",
        ),
        (["-p", "80"], {}, "in its ad, and for ''"),
        ([], {"container_options": {"ports": {"w": 80}}}, "'' in its ad"),
        # A host's port or address, or another protocol, is not what HTCondor writes.
        (["-p", "22:80"], {"container_options": {"ports": {"w": 80}}}, "'22:80' in its ad"),
        (["-p", "0.0.0.0::80"], {"container_options": {"ports": {"w": 80}}}, "in its ad"),
        (["-p", "80/udp"], {"container_options": {"ports": {"w": 80}}}, "in its ad"),
        (
            ["-p", "80"],
            {"container_options": {"ports": {"w": 80}, "network": "none"}},
            "network none",
        ),
        (["-p", "0"], {"container_options": {"ports": {"w": 0}}}, "a port that is none"),
        (["-p", "80"], {"container_options": {"ports": {"w": "80"}}}, "a port that is none"),
        (["-p", "80"], {"container_options": {"ports": {"a b": 80}}}, "a port that is none"),
        (["-p", "80"], {"container_options": {"ports": [80]}}, "wrong type"),
    ],
)
def test_ports_that_a_job_does_not_get(
    options: list[str], changes: dict[str, Any], expected: str
) -> None:
    assert expected in refusal(*options, **{"settings": PORTS} | changes)


def test_a_job_gets_a_few_ports() -> None:
    ports = {f"p{number}": number for number in range(81, 90)}
    options = [text for port in ports.values() for text in ("-p", str(port))]
    assert "a job gets 8" in refusal(*options, settings=PORTS, container_options={"ports": ports})


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::"])  # noqa: S104 - refused
def test_a_node_without_an_address_publishes_nothing(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "NODE_ADDRESS", address)
    container_options = {"ports": {"web": 80}}
    assert "--advertise-addr" in refusal(
        "-p", "80", settings=PORTS, container_options=container_options
    )

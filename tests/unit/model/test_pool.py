from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from pydantic import ValidationError

from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.resources import Resources


def validation_messages(**fields: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        Pool(**fields)
    errors = caught.value.errors()
    return {".".join(str(part) for part in error["loc"]): error["msg"] for error in errors}


def test_the_default_pool_is_the_slides_pool() -> None:
    pool = Pool()
    assert list(pool.classes) == ["normal", "big"]
    assert [each.memory_mb for each in pool.classes.values()] == [1024, 2048]
    assert [each.replicas for each in pool.classes.values()] == [2, 1]
    assert pool.address == "127.0.0.1:9618"
    assert pool.describe_classes() == "normal: 1 cpu, 1024 MB memory; big: 1 cpu, 2048 MB memory"


def test_services_are_named_as_on_the_slides() -> None:
    pool = Pool(name="galaxy")
    assert pool.service() == "galaxy_htcondor"
    assert pool.service("normal") == "galaxy_htcondor-executor"
    assert pool.service("big") == "galaxy_htcondor-executor-big"


@pytest.mark.parametrize(
    ("resources", "fits"),
    [
        ({"cpus": 4, "memory_mb": 4096, "disk_mb": 100, "gpus": 1}, True),
        ({"cpus": 5}, False),
        ({"memory_mb": 4097}, False),
        ({"disk_mb": 101}, False),
        ({"gpus": 2}, False),
    ],
)
def test_a_request_fits_when_each_amount_does(resources: dict[str, int], fits: bool) -> None:
    capacity_class = CapacityClass(cpus=4, memory_mb=4096, disk_mb=100, gpus=1)
    assert capacity_class.fits(Resources(**({"disk_mb": 1} | resources))) is fits


def test_a_class_says_its_size() -> None:
    capacity_class = CapacityClass(cpus=4, memory_mb=4096, disk_mb=100, gpus=1)
    assert str(capacity_class) == "4 cpu, 4096 MB memory, 100 MB disk, 1 gpu"


@pytest.mark.parametrize(
    ("fields", "where", "says"),
    [
        ({"classes": {}}, "classes", "at least 1"),
        ({"classes": {"a": {}}}, "classes.a.memory_mb", "required"),
        ({"classes": {"a": {"memory_mb": 8}}}, "classes.a.memory_mb", "16"),
        ({"classes": {"A b": {"memory_mb": 99}}}, "classes.A b.[key]", "not a valid name"),
        (
            {"classes": {"a": {"memory_mb": 99}, "b": {"memory_mb": 99, "replicas": 2}}},
            "classes.b",
            "same size as a",
        ),
        (
            {
                "classes": {
                    "a": {"memory_mb": 99, "retirement_s": 1},
                    "c": {"memory_mb": 98},
                    "b": {"memory": "99M"},
                }
            },
            "classes.b",
            "has the same size as a (1 cpu, 99 MB memory), so that the two have no order",
        ),
        ({"classes": {"a": {"memory": "1G", "memory_mb": 1024}}}, "classes.a", "one of the two"),
        ({"classes": {"a": {"memory": 4}}}, "classes.a.memory_mb", "needs a number with a unit"),
        (
            {"classes": {"a": {"memory_mb": 99, "min_replicas": 3, "max_replicas": 2}}},
            "classes.a.min_replicas",
            "above max_replicas (2)",
        ),
        (
            {"classes": {"a": {"memory_mb": 99, "min_replicas": 3, "replicas": 2}}},
            "classes.a.replicas",
            "is 2, below min_replicas (3)",
        ),
        (
            {"classes": {"a": {"memory_mb": 99, "replicas": 3, "max_replicas": 2}}},
            "classes.a.replicas",
            "above max_replicas (2)",
        ),
        (
            {"name": "x" * 40, "classes": {"y" * 20: {"memory_mb": 99}}},
            f"classes.{'y' * 20}",
            "Swarm accepts 63",
        ),
        ({"name": "My Pool"}, "name", "not a valid name"),
        ({"host": "a b"}, "host", "pattern"),
        ({"host": "10.0..1"}, "host", "pattern"),
        ({"host": "x:y"}, "host", "pattern"),
        ({"port": 0}, "port", "greater"),
        ({"user": {"uid": 0}}, "user.uid", "greater"),
        ({"user": {"gid": 0}}, "user.gid", "greater"),
        (
            {"services": {"manager": "a", "big": "b"}},
            "services",
            "does not name the service of normal",
        ),
        ({"services": {"manager": "a", "normal": "a", "big": "b"}}, "services.normal", "twice"),
        (
            {"services": {"huge": "h"}},
            "services.huge",
            "is not a class; use one of manager, normal",
        ),
        ({"network": {"publish": "ingress"}}, "network.publish", "requires endpoint_mode: vip"),
        ({"network": {"endpoint_mode": "lb"}}, "network.endpoint_mode", "'dnsrr' or 'vip'"),
        ({"pull": "never"}, "pull", "'missing' or 'always'"),
        ({"volumes": ["data"]}, "volumes.0.path", "not an absolute path"),
        ({"volumes": ["/a:rx"]}, "volumes.0", "mounts /a at rx, but a job sees a volume at"),
        ({"volumes": ["/a:/b"]}, "volumes.0", "mount the directory at /b on every node"),
        ({"volumes": ["/a:/a:rx"]}, "volumes.0", "write /path, /path:ro, /path:/path"),
        ({"volumes": ["/a:/a:ro:x"]}, "volumes.0", "write /path"),
        ({"volumes": [{"type": "tmpfs", "target": "/a"}]}, "volumes.0", "a mount of type tmpfs"),
        ({"volumes": [{"source": "/a", "size": 1}]}, "volumes.0", "a mount with size"),
        ({"volumes": [{"source": "/a", "target": "/b"}]}, "volumes.0", "mounts /a at /b"),
        ({"volumes": [":\ud800"]}, "volumes.0", r"at \ud800, but a job sees"),
        ({"volumes": [{"type": "\ud800"}]}, "volumes.0", r"a mount of type \ud800"),
        ({"volumes": [{"source": "/a", "target": 1}]}, "volumes.0", "that is not a text"),
        ({"volumes": ["/" + "a" * 5000]}, "volumes.0.path", "more than a path can have"),
        ({"volumes": ["/a/../etc"]}, "volumes.0.path", "must not contain . or .."),
        ({"volumes": ["/a/./b"]}, "volumes.0.path", "slashes"),
        ({"volumes": ["//a"]}, "volumes.0.path", "slashes"),
        ({"volumes": [{"path": "/a,b"}]}, "volumes.0.path", "mount cannot represent"),
        ({"volumes": ["/a", "/a/b"]}, "volumes.1", "overlap"),
        ({"volumes": ["/a/b", "/c", "/a"]}, "volumes.2", "overlap"),
        ({"volumes": ["/a", "/a:ro"]}, "volumes.1", "overlap"),
    ],
)
def test_an_invalid_pool_is_refused_by_field(fields: dict[str, Any], where: str, says: str) -> None:
    assert says in validation_messages(**fields)[where]


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/proc", "/sys/fs", "/dev", "/etc", "/usr", "/usr/local/x", "/bin", "/lib"),
        *("/lib64", "/run", "/var", "/var/run/x", "/var/lib", "/var/lib/docker"),
        *("/tmp", "/var/tmp"),  # noqa: S108  as refused
    ],
)
def test_a_system_directory_is_no_volume(path: str) -> None:
    assert "below a system directory" in validation_messages(volumes=[path])["volumes.0.path"]


def test_volumes_of_data_are_taken() -> None:
    pool = Pool(volumes=["/data", "/data2:ro", {"path": "/srv/x", "read_only": True}, "/home/x"])
    assert [(volume.path, volume.read_only) for volume in pool.volumes] == [
        ("/data", False),
        ("/data2", True),
        ("/srv/x", True),
        ("/home/x", False),
    ]


@pytest.mark.parametrize(
    ("volume", "read_only"),
    [
        ("/export:/export", False),
        ("/export:/export:rw", False),
        ("/export:/export:ro", True),
        ({"type": "bind", "source": "/export", "target": "/export", "read_only": True}, True),
        ({"src": "/export", "dst": "/export"}, False),
        ({"source": "/export", "destination": "/export", "readonly": True}, True),
    ],
)
def test_a_volume_as_docker_and_compose_write_it(volume: Any, read_only: bool) -> None:
    [mount] = Pool(volumes=[volume]).volumes
    assert (mount.path, mount.read_only) == ("/export", read_only)


def test_classes_are_ordered_by_size_and_not_by_place() -> None:
    classes = {
        "vm": {"memory": "1G", "virtual_machines": 1},
        "gpu": {"memory": "2G", "gpus": 1},
        "huge": {"memory": "64 GB", "cpus": 8},
        "wide": {"memory_mb": 2048, "cpus": 8},
        "big": {"memory": "2 GB", "disk": "100G"},
        "roomy": {"memory": "2 GB", "disk_mb": 200 * 1024},
        "normal": {"memory": "0.9999 GB"},
    }
    pool = Pool(classes=classes)
    assert list(pool.classes) == ["normal", "big", "roomy", "wide", "huge", "gpu", "vm"]
    assert pool.classes["normal"].memory_mb == 1024


def test_the_volume_of_a_path() -> None:
    pool = Pool(volumes=["/data", "/data2:ro"])
    found = {path: pool.volume_of(path) for path in ("/data", "/data/a/../b", "/data2/x", "/data3")}
    assert [volume and volume.path for volume in found.values()] == [
        "/data",
        "/data",
        "/data2",
        None,
    ]
    assert pool.volume_of("/data/../etc") is None
    assert pool.volume_of(PurePosixPath("/data/x")) == pool.volumes[0]


@pytest.mark.parametrize(
    ("fields", "minimum", "number", "clamped"),
    [
        ({"replicas": 2}, 2, 1, 2),
        ({"replicas": 2, "min_replicas": 0}, 0, 1, 1),
        ({"replicas": 2, "max_replicas": 4}, 2, 9, 4),
        ({"replicas": 2}, 2, 9, 9),
    ],
)
def test_replica_limits(fields: dict[str, int], minimum: int, number: int, clamped: int) -> None:
    limits = CapacityClass(memory_mb=512, **fields).replica_limits
    assert limits.minimum == minimum
    assert limits.clamp(number) == clamped


def test_classes_of_virtual_machines_are_an_order_of_their_own() -> None:
    pool = Pool(
        classes={
            "normal": CapacityClass(memory_mb=1024),
            "vm": CapacityClass(cpus=2, memory_mb=512, virtual_machines=2, emulate=True),
            "big": CapacityClass(memory_mb=2048),
        }
    )
    assert pool.has_vm_classes
    assert not Pool().has_vm_classes
    assert pool.classes_for(vm=True) == ["vm"]
    assert pool.classes_for(vm=False) == ["normal", "big"]
    assert pool.describe_classes(vm=True) == "vm: 2 cpu, 512 MB memory, 2 virtual machines"
    small = {"memory_mb": 256, "virtual_machines": 1}
    ordered = Pool(classes={"vm": {"memory_mb": 512, "virtual_machines": 1}, "vm-small": small})
    assert ordered.classes_for(vm=True) == ["vm-small", "vm"]


def test_no_more_virtual_machines_than_cpus() -> None:
    messages = validation_messages(
        classes={"vm": {"memory_mb": 512, "cpus": 2, "virtual_machines": 3}}
    )
    assert (
        "is 3, above cpus (2): each needs at least one" in messages["classes.vm.virtual_machines"]
    )


def test_a_virtual_machine_is_given_no_gpus() -> None:
    messages = validation_messages(
        classes={"vm": {"memory_mb": 512, "virtual_machines": 1, "gpus": 1}}
    )
    assert "a virtual machine cannot use GPUs" in messages["classes.vm.gpus"]


def test_only_virtual_machines_are_emulated() -> None:
    messages = validation_messages(classes={"normal": {"memory_mb": 512, "emulate": True}})
    assert "virtual_machines" in messages["classes.normal.emulate"]

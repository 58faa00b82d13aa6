from __future__ import annotations

from swarm_runner.condor.ads import slot_from_ad


def test_what_a_slot_has_in_all() -> None:
    ad = {"TotalSlotDisk": 3 * 1024 + 1.5, "TotalSlotGPUs": 2, "GPUs": 1}
    read = slot_from_ad(ad)
    assert (read.total_disk_mb, read.total_gpus, read.gpus) == (3, 2, 1)


def test_what_a_slot_does_not_say() -> None:
    read = slot_from_ad({})
    assert (read.total_disk_mb, read.total_gpus, read.gpus) == (None, 0, 0)

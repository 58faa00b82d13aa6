"""Generated job_confs, destinations and invocations: near what people write, and far from it."""

from __future__ import annotations

import json
import random
from typing import Any

import yaml

from swarm_runner.config.galaxy_keys import ENVIRONMENT_KEYS
from tests.strategies import AWKWARD_TEXTS

_ODD_TEXTS = (
    *AWKWARD_TEXTS,
    *("1:59:59:59", "=", "<<", "0x1F", "1_000", ".inf", "-.inf", ".nan", "~", "null", "yes", "0o7"),
    *("2026-01-01", "2026-13-41", "!!bool x", "&a", "*a", "[/b]", "[bold]", "%", "@", "`"),
    *("11.399999999999999G", "4 GB", "1e3", "4Gi", "-1", "nan", "1e999", "9" * 50, "4.0", " 4 "),
    *("\x1b[31m", "\x9b", "\x7f", "\u202e", "a\tb", "a\nb", "\ud800"),
    *("/data", "/data:/data", "/a:/a:ro", "/etc", "/a/../b", "debian:trixie", "A B", "swarm"),
)
_KEYS = (
    *("runners", "execution", "environments", "default", "job_config", "galaxy", "runner", "pool"),
    *("load", "workers", "kwds", "params", "tags", "id", "env", "resubmit", "enabled", "limits"),
    *("name", "classes", "image", "host", "port", "network", "services", "user", "volumes", "pull"),
    *("subnet", "prefix", "endpoint_mode", "publish", "uid", "gid", "cpus", "memory", "memory_mb"),
    *("disk", "disk_mb", "gpus", "replicas", "min_replicas", "max_replicas", "virtual_machines"),
    *("request_cpus", "request_memory", "max_memory", "request_disk", "request_gpus", "universe"),
    *("time_limit_s", "capacity_class", "escalation", "docker_default_container_id", "request_mem"),
    *("htcondor_+Group", "htcondor_rank", "htcondor_universe", "htcondor_", "k8s_walltime_limit"),
    *("key", "tool_id", "command", "shell", "vm", "resources", "environment", "inputs", "outputs"),
    *("stdin", "stdout", "stderr", "attributes", "repeat", "in_place", "working_directory"),
    *("submit_request_gpus", "description", "source", "target", "type", "read_only", "path"),
    *sorted(ENVIRONMENT_KEYS)[::7],
)


class Generator:
    """Data of one seed. Drawing each part by itself would cost ten times what the reader costs."""

    def __init__(self, seed: int, texts: list[str]) -> None:
        self._random = random.Random(seed)  # noqa: S311  no secret
        self._texts = texts

    def text(self) -> str:
        chosen = self._random.choice(_ODD_TEXTS if self._random.random() < 0.7 else self._texts)
        return chosen if self._random.random() < 0.9 else chosen + self._random.choice(_ODD_TEXTS)

    def scalar(self) -> Any:
        choice = self._random.randrange(10)
        if choice < 5:
            return self.text()
        if choice < 7:
            return self._random.choice((0, 1, 2, 16, 512, 1024, 4096, -1, 2**63, 10**30))
        return self._random.choice((True, False, None, 0.5, 4.0, 1e300, float("inf"), float("nan")))

    def value(self, depth: int = 3) -> Any:
        choice = self._random.random()
        if depth and choice < 0.15:
            return [self.value(depth - 1) for _ in range(self._random.randrange(4))]
        if depth and choice < 0.3:
            return self.mapping(depth - 1)
        return self.scalar()

    def mapping(self, depth: int = 3) -> dict[Any, Any]:
        keys = [
            self._random.choice(_KEYS) if self._random.random() < 0.8 else self.scalar()
            for _ in range(self._random.randrange(5))
        ]
        return {key: self.value(depth) for key in keys if key == key}

    def _amended(self, mapping: dict[Any, Any]) -> dict[Any, Any]:
        """Return a mapping of which some keys are missing, changed or added, in another order."""
        items = [(key, value) for key, value in mapping.items() if self._random.random() < 0.93]
        items = [
            (key, self.value() if self._random.random() < 0.12 else value) for key, value in items
        ]
        if self._random.random() < 0.3:
            items += list(self.mapping().items())
        self._random.shuffle(items)
        return dict(items)

    def parameters(self) -> dict[Any, Any]:
        return self._amended(
            {
                "request_cpus": self._random.choice((1, "2", "2.0", 4.0, "x")),
                "request_memory": self._random.choice((512, "512M", "1.9 GB", "900.5", "8", -1)),
                "max_memory": self._random.choice(("2G", 1024, None, "")),
                "time_limit_s": self._random.choice((60, "3600.0", None)),
                "docker_enabled": True,
                self.text(): self.scalar(),
            }
        )

    def pool(self) -> dict[Any, Any]:
        capacity_class = {
            "cpus": self._random.choice((1, 2, 64)),
            "memory": self._random.choice(("1G", "4 GB", "x", 5)),
            "replicas": 1,
        }
        return self._amended(
            {
                "name": self._random.choice(("galaxy", "p", "A b")),
                "classes": {
                    self._random.choice(("normal", "big", "huge")): self._amended(capacity_class)
                    for _ in range(self._random.randrange(1, 4))
                },
                "volumes": [self.text() for _ in range(self._random.randrange(3))],
                "network": self._amended({"prefix": 22}),
            }
        )

    def job_conf(self) -> dict[Any, Any]:
        runner: dict[Any, Any] = {"load": "swarm_runner_galaxy.runner:SwarmJobRunner"}
        passed = self._amended({"pool": self.pool(), "lease_s": "300"})
        runner |= passed if self._random.random() < 0.7 else {"kwds": passed}
        environments: dict[Any, Any] = {}
        for number in range(self._random.randrange(4)):
            parameters = self.parameters()
            settings = parameters if self._random.random() < 0.7 else {"params": parameters}
            runner_name = self._random.choice(("swarm", "swarm", "local", "dynamic", "swram", None))
            name = f"e{number}" if self._random.random() < 0.9 else self.scalar()
            if name == name:  # not NaN, which YAML and JSON cannot find again
                environments[name] = {"runner": runner_name} | settings
        data = self._amended(
            {
                "runners": self._amended(
                    {
                        "swarm" if self._random.random() < 0.9 else self.text(): self._amended(
                            runner
                        ),
                        "local": {"load": "l"},
                    }
                ),
                "execution": self._amended({"environments": environments, "default": "e0"}),
                "tools": [],
                "limits": self.value(),
            }
        )
        return self._random.choice(
            (data, data, data, {"job_config": data}, {"galaxy": {"job_config": data}})
        )

    def invocations(self) -> Any:
        items = [
            self._amended(
                {
                    "key": f"k{number}",
                    "command": [self.text() for _ in range(self._random.randrange(3))],
                    "image": self._random.choice(("debian:trixie", self.text())),
                    "resources": self._amended({"memory": "1G", "cpus": 1}),
                    "inputs": [self.text() for _ in range(self._random.randrange(3))],
                    "environment": {self.text(): self.text()},
                    "repeat": 2,
                }
            )
            for number in range(self._random.randrange(1, 3))
        ]
        return items if self._random.random() < 0.7 else items[0]

    def dumped(self, data: Any) -> str:
        """Return data as YAML or JSON, sometimes damaged."""
        if self._random.random() < 0.8:
            text = json.dumps(data, default=str, ensure_ascii=False)
        else:
            try:
                text = yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False)
            except UnicodeEncodeError:  # a lone surrogate, which only JSON can write
                text = json.dumps(data, default=str)
        if self._random.random() < 0.2:
            position = self._random.randrange(len(text) + 1)
            text = text[:position] + self.text() + text[position + self._random.randrange(4) :]
        return text


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

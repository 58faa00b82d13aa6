"""Field trials of a destination's parameters. See docs/field-trials.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarm_runner import InvalidInputError, Pool, classify_keys, parse_parameters

POOL = Pool.model_validate({"classes": {"normal": {"cpus": 32, "memory_mb": 128_000, "gpus": 1}}})
SAMPLES = Path(__file__).parents[4] / "tests" / "unit" / "field_trials"


def _cases() -> Iterator[Any]:
    for file in sorted(SAMPLES.glob("*.yml")):
        for sample in yaml.safe_load(file.read_text(encoding="utf-8")):
            for position, case in enumerate(sample.get("cases", ())):
                if "galaxy" in case:
                    yield pytest.param(case, id=f"{sample['number']}-{position}")


@pytest.mark.parametrize("case", list(_cases()))
def test_parameters(case: dict[str, Any]) -> None:
    if "refused" in case:
        with pytest.raises(InvalidInputError) as caught:
            parse_parameters(case["galaxy"], "swarm", POOL)
        assert [text for text in case["refused"] if text not in str(caught.value)] == []
        return
    found = parse_parameters(case["galaxy"], "swarm", POOL)
    given = found.model_dump(exclude_unset=True) | {"raw_commands": dict(found.raw_commands)}
    for key, value in case.get("expect", {}).items():
        assert given.get(key) == value
    foreign = classify_keys(case["galaxy"], POOL)
    warnings = [f"{key}: {message}" for key, message in foreign.warnings]
    if "warns" in case:
        assert bool(warnings) == bool(case["warns"]), warnings
    for fragment in case.get("warns", ()):
        assert any(fragment in warning for warning in warnings), warnings

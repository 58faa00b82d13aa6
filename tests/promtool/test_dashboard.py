"""The dashboard against Grafana's own types, of which `make grafana-schema` makes JSON schemas."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema

from swarm_runner import metrics

SCHEMAS = Path(__file__).parents[2] / ".state" / "grafana"
FILE = Path(metrics.__file__).parent / "monitoring" / "grafana-dashboard.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())


def problems(schema: str, value: object) -> list[str]:
    file = SCHEMAS / f"{schema}.json"
    assert file.exists(), f"there is no {file}; run `make grafana-schema`"
    validator = jsonschema.Draft7Validator(json.loads(file.read_text()))
    return [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(value)]


def test_the_dashboard_is_one_of_grafana() -> None:
    assert problems("dashboard", DASHBOARD) == []


def test_the_panels_are_plots_of_grafana() -> None:
    assert len(DASHBOARD["panels"]) > 10
    for panel in DASHBOARD["panels"]:
        assert panel["type"] == "timeseries"
        assert problems("options", panel["options"]) == [], panel["title"]
        custom = panel["fieldConfig"]["defaults"].get("custom", {})
        assert problems("field-config", custom) == [], panel["title"]


def test_the_types_refuse_what_grafana_does_not_know() -> None:
    wrong = copy.deepcopy(DASHBOARD)
    wrong["schemaversion"] = wrong.pop("schemaVersion")
    wrong["panels"][0]["options"]["legend"]["placement"] = "middle"

    assert len(problems("dashboard", wrong)) >= 2
    assert problems("options", wrong["panels"][0]["options"])


def test_panels_do_not_overlap_and_fit_the_grid() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        columns = range(grid["x"], grid["x"] + grid["w"])
        rows = range(grid["y"], grid["y"] + grid["h"])
        covered = {(x, y) for x in columns for y in rows}
        assert max(columns) < 24, panel["title"]
        assert cells.isdisjoint(covered), panel["title"]
        cells |= covered

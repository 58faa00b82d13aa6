"""Each alert fires and clears, its runbook exists, and the dashboard reads metrics that exist."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarm_runner.metrics.definitions import POOL_METRICS
from tests.promtool.conftest import Promtool

MONITORING = Path(str(resources.files("swarm_runner.metrics") / "monitoring"))
GUIDE = Path(__file__).parents[2] / "docs" / "operators-guide.md"
RULES = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
CLASS = 'pool="galaxy",class="normal"'
# By alert: a series and its values each minute, a minute at which the alert fires, and one at which
# it no longer does.
CASES: dict[str, tuple[str, str, int, int]] = {
    "SwarmRunnerObserverDown": ('up{job="swarm-runner",instance="a"}', "0x10 1x10", 6, 15),
    "SwarmRunnerPollStale": (
        'swarm_runner_last_poll_timestamp_seconds{pool="galaxy",source="queue"}',
        "0x10 660+60x10",
        8,
        15,
    ),
    "SwarmRunnerFrozen": (f"swarm_runner_frozen{{{CLASS}}}", "1x10 0x10", 6, 15),
    "SwarmRunnerOldestIdle": (
        f"swarm_runner_oldest_idle_seconds{{{CLASS}}}",
        "3601x10 0x10",
        6,
        15,
    ),
    "SwarmRunnerJobsUnmatchable": (
        'swarm_runner_jobs_unmatchable{pool="galaxy"}',
        "3x10 0x10",
        6,
        15,
    ),
    "SwarmRunnerExecutorsUnusable": (
        f'swarm_runner_executors{{{CLASS},state="unusable"}}',
        "1x15 0x10",
        12,
        20,
    ),
    "SwarmRunnerExecutorsReplaced": (
        f'swarm_runner_executors_replaced_total{{{CLASS},reason="broken_slot"}}',
        "0x5 1+1x3 4x120",
        15,
        100,
    ),
    "SwarmRunnerTokenExpires": (
        'swarm_runner_token_expiry_timestamp_seconds{pool="galaxy"}',
        "1209600x10 9999999x10",
        2,
        15,
    ),
    "SwarmRunnerScheddBusy": (
        'swarm_runner_schedd_duty_cycle_ratio{pool="galaxy"}',
        "0.99x15 0.2x10",
        12,
        20,
    ),
    "SwarmRunnerSpoolFull": (
        'swarm_runner_disk_free_bytes{pool="galaxy"}',
        "9x10 11x10",
        6,
        15,
    ),
    "SwarmRunnerRetirementDeadline": (
        f"swarm_runner_retiring_until_timestamp_seconds{{{CLASS}}}",
        "1800x10 stale",
        2,
        15,
    ),
    "SwarmRunnerHoldsAboveUsual": (
        'swarm_runner_holds_total{pool="galaxy",kind="TransferInputError"}',
        "0x60 1+1x29 30x120",
        90,
        200,
    ),
}


# Further series that an alert's expression reads.
FURTHER_SERIES = {
    "SwarmRunnerSpoolFull": [
        {"series": 'swarm_runner_disk_size_bytes{pool="galaxy"}', "values": "100x20"}
    ]
}


def run_test(promtool: Promtool, directory: Path, test: dict[str, Any]) -> str:
    """Return promtool's verdict on the packaged rules."""
    file = directory / "test.yml"
    document = {
        "rule_files": [str(MONITORING / "alerts.yml")],
        "tests": [{"interval": "1m"} | test],
    }
    file.write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", str(file))
    return "" if done.code == 0 else done.out + done.err


def firing(alert: str, minute: int, number: int) -> dict[str, Any]:
    return {
        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": "{}", "value": number}] if number else [],
    }


def test_every_alert_has_a_case_and_a_runbook() -> None:
    guide = GUIDE.read_text()
    assert [rule["alert"] for rule in RULES] == list(CASES)
    for rule in RULES:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor) == (GUIDE.name, rule["alert"].lower())
        assert f"\n#### {rule['alert']}\n" in guide
        assert rule["labels"]["severity"] in ("warning", "critical")


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_and_clears(alert: str, promtool: Promtool, tmp_path: Path) -> None:
    series, values, fires_at, clears_at = CASES[alert]
    further = FURTHER_SERIES.get(alert, [])
    test = {
        "input_series": [{"series": series, "values": values}, *further],
        "promql_expr_test": [firing(alert, fires_at, 1), firing(alert, clears_at, 0)],
    }

    assert run_test(promtool, tmp_path, test) == ""


def test_as_many_holds_as_usual_are_no_alert(promtool: Promtool, tmp_path: Path) -> None:
    series = CASES["SwarmRunnerHoldsAboveUsual"][0]
    test = {
        "input_series": [{"series": series, "values": "0+0.5x1600"}],
        "promql_expr_test": [firing("SwarmRunnerHoldsAboveUsual", 1560, 0)],
    }

    assert run_test(promtool, tmp_path, test) == ""


def test_a_wrong_expectation_fails(promtool: Promtool, tmp_path: Path) -> None:
    series, values, fires_at, _ = CASES["SwarmRunnerFrozen"]
    test = {
        "input_series": [{"series": series, "values": values}],
        "promql_expr_test": [firing("SwarmRunnerFrozen", fires_at, 0)],
    }

    assert "FAILED" in run_test(promtool, tmp_path, test)


def test_the_files_are_valid(promtool: Promtool) -> None:
    for kind, name in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
        done = promtool("check", kind, str(MONITORING / name))
        assert done.code == 0, done.out + done.err


def dashboard_expressions() -> list[str]:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_rules_and_dashboard_read_metrics_that_exist() -> None:
    names = {definition.full_name for definition in POOL_METRICS}
    names |= {f"{d.full_name}_bucket" for d in POOL_METRICS if d.type == "histogram"}
    expressions = [*dashboard_expressions(), *(rule["expr"] for rule in RULES)]
    used = {name for text in expressions for name in re.findall(r"swarm_runner_\w+", text)}

    assert used - names == set()


def test_every_expression_of_the_dashboard_parses(promtool: Promtool, tmp_path: Path) -> None:
    rules = [
        {"record": f"r{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(dashboard_expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", str(file))

    assert done.code == 0, done.out + done.err
    assert f"{len(rules)} rules found" in done.out

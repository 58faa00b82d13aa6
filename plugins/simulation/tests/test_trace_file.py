from __future__ import annotations

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.scaling import ResourceAmounts
from swarm_runner_simulation import trace_file
from swarm_runner_simulation.trace_file import read_trace

CSV = """\
time_s,cpus,memory_mb,duration_s,count,class
0,1,512,60,3,
90.5,2,2048,30,,big
"""
JSON_LINES = """\
{"time_s": 0, "memory_mb": 512, "duration_s": 60, "count": 3}

{"time_s": 90.5, "cpus": 2, "memory_mb": 2048, "duration_s": 30, "class": "big"}
"""
YAML = """\
- {time_s: 0, memory_mb: 512, duration_s: 60, count: 3}
- {time_s: 90.5, cpus: 2, memory_mb: 2048, duration_s: 30, class: big}
"""


@pytest.mark.parametrize(
    ("text", "source"),
    [(CSV, "day.csv"), (CSV, "standard input"), (JSON_LINES, "day.jsonl"), (YAML, "day.yml")],
)
def test_the_three_kinds_say_the_same(text: str, source: str) -> None:
    trace = read_trace(text, source)
    assert list(trace.time_s) == [0, 0, 0, 90.5]
    assert list(trace.duration_s) == [60, 60, 60, 30]
    assert list(trace.request_ids) == [0, 0, 0, 1]
    assert trace.requests == [
        (ResourceAmounts(cpus=1, memory_mb=512), None),
        (ResourceAmounts(cpus=2, memory_mb=2048), "big"),
    ]
    assert (trace.length_s, trace.name) == (90.5, source)


HEAD = "time_s,duration_s,memory_mb,count\n"


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        ("", "a.csv", "a.csv: is empty"),
        (HEAD, "a.csv", "a.csv: has no arrivals"),
        ("[]", "a.yml", "a.yml: has no arrivals"),
        ("time_s,duraton_s\n", "a.csv", "'duraton_s' is not a column; did you mean duration_s?"),
        (HEAD + "1,2,512,1\n-1,2,512,1\n", "a.csv", "a.csv:3: time_s"),
        (HEAD + "1,nan,512,1\n", "a.csv", "a.csv:2: duration_s"),
        (HEAD + "1,,512,1\n", "a.csv", "a.csv:2: duration_s Field required"),
        (HEAD + "1,2,8,1\n", "a.csv", "a.csv:2: memory_mb"),
        (HEAD + "1,2,512,0\n", "a.csv", "a.csv:2: count"),
        (HEAD + "1,2,512,1,9\n", "a.csv", "a.csv:2: more cells"),
        ('{"time_s": 1', "a.jsonl", "a.jsonl:1: is not valid JSON"),
        ("[1]", "a.jsonl", "a.jsonl:1: "),
        ("time_s: 1", "a.yml", "a.yml: must be a list"),
        ("- {time_s: 1, duration_s: 2, memory: 3}", "a.yml", "a.yml:1:"),
    ],
)
def test_each_problem_has_its_line(text: str, source: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_trace(text, source)
    assert message in str(refused.value)


def test_more_jobs_than_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_file, "MAX_JOBS", 5)
    assert len(read_trace(HEAD + "1,2,512,4\n1,2,512,1\n", "a.csv")) == 5
    with pytest.raises(InvalidInputError, match="more than 5 jobs"):
        read_trace(HEAD + "1,2,512,4\n1,2,512,2\n", "a.csv")


def test_every_problem_is_reported() -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_trace(HEAD + "x,2,512,1\n1,2,512,1\n1,y,512,1\n", "a.csv")
    assert [diagnostic.location for diagnostic in refused.value.diagnostics] == [
        "a.csv:2",
        "a.csv:4",
    ]

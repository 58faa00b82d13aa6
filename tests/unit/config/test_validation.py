from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from pydantic import Field

from swarm_runner.config.destination_parameters import DestinationParameters
from swarm_runner.config.documents import dump_invocations, parse_invocations
from swarm_runner.config.job_conf import RunnerSection
from swarm_runner.config.validation import parse_document, validate_document
from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import OutcomeKind
from swarm_runner.model.pool import CapacityClass, Destination, JobUser, Pool
from swarm_runner.model.resources import Resources
from swarm_runner.model.text import FrozenModel, Text
from swarm_runner.model.vm import Disk, SuccessMarker, VirtualMachine
from swarm_runner.policy.routing import swarm_runner_route
from tests.strategies import AWKWARD_TEXTS, make_invocations


class Leaf(FrozenModel):
    name: Text
    size: int = Field(1, ge=1)


class Tree(FrozenModel):
    leaves: tuple[Leaf, ...] = ()
    named: dict[str, Leaf] = Field(default_factory=dict)
    root: Leaf | None = None
    kind: str = "oak"


def diagnostics(text: str) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        validate_document(Tree, parse_document(text, "t.yml"))
    return [str(diagnostic) for diagnostic in caught.value.diagnostics]


def invocation_diagnostics(text: str) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        parse_invocations(text, "i.yml")
    return [str(diagnostic) for diagnostic in caught.value.diagnostics]


def test_yaml_and_json_are_the_same_data() -> None:
    data = {"leaves": [{"name": "é☃𝄞", "size": 2}], "kind": "x\ty"}
    tree = Tree.model_validate(data)
    for text in (json.dumps(data), json.dumps(data, indent="\t", ensure_ascii=False)):
        assert validate_document(Tree, parse_document(text, "t.json")) == tree
    assert (
        validate_document(
            Tree, parse_document('leaves: [{name: é☃𝄞, size: 2}]\nkind: "x\\ty"', "t")
        )
        == tree
    )


def test_yamls_escapes_of_one_character_are_one_character() -> None:
    assert parse_document('a: "\\ud834\\udd1e"', "t").data == {"a": "𝄞"}


def test_every_problem_has_its_line_and_column() -> None:
    text = """\
leaves:
  - {name: a, sise: 1}
  - size: 0
root: [1]
kind: 1
"""
    assert diagnostics(text) == [
        "t.yml:2:15: leaves[0].sise: is not a valid key; did you mean size?",
        "t.yml:3:5: leaves[1].name: is missing",
        "t.yml:3:5: leaves[1].size: must be at least 1, not the number 0",
        "t.yml:4:1: root: needs keys and values, not a list",
        "t.yml:5:1: kind: needs a text, not the number 1; put it in quotes",
    ]


def test_problems_of_json_have_their_line_and_column_too() -> None:
    assert diagnostics('{\n\t"leaves": [\n\t\t{"name": 1}\n\t]\n}') == [
        "t.yml:3:4: leaves[0].name: needs a text, not the number 1; put it in quotes"
    ]


def test_names_of_a_mapping_are_part_of_the_path() -> None:
    assert diagnostics("named:\n  big: {name: a, size: many}\n") == [
        "t.yml:2:18: named.big.size: needs a whole number, not the text 'many'"
    ]


def test_an_unknown_key_with_nothing_close_lists_what_is_known() -> None:
    assert diagnostics("zzz: 1") == [
        "t.yml:1:1: zzz: is not a valid key; use one of leaves, named, root, kind"
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("root: {name: yes}", "1:8: root.name: needs a text, not true"),
        ("root: {name: 2024-01-01}", "1:8: root.name: needs a text, not the date 2024-01-01"),
        ("root: {name: 12:30:00}", "1:8: root.name: needs a text, not the number 45000"),
        ("root: {name: }", "1:8: root.name: needs a text, not nothing"),
        ("leaves: {}", "1:1: leaves: needs a list, not keys and values"),
        ("1: x", "1:1: 1: has a key that is not a text"),
        ("- a", "1:1: needs keys and values, not a list"),
        ("kind: x", None),
    ],
)
def test_types_are_named_in_plain_words(text: str, fault: str | None) -> None:
    if fault is None:
        assert validate_document(Tree, parse_document(text, "t.yml")).kind == "x"
    else:
        assert diagnostics(text)[0].startswith(f"t.yml:{fault}")


@pytest.mark.parametrize("text", ["kind: a\nkind: b", '{"kind": "a",\n "kind": "b"}'])
def test_a_duplicate_key_is_an_error(text: str) -> None:
    [found] = diagnostics(text)
    assert found.startswith("t.yml:2:")
    assert "kind is a duplicate of the key in line 1" in found


@pytest.mark.parametrize(
    ("text", "location", "says"),
    [
        ("a: [1", "t.yml:2:1", "is not valid YAML"),
        ("a: b: c", "t.yml:1:5", "is not valid YAML"),
        ("a: 1\n\tb: 2", "t.yml:2:1", "is not valid YAML"),
        ("a: 'x", "t.yml:1:6", "is not valid YAML"),
        ("a: 1\n---\nb: 2", "t.yml:2:1", "is not valid YAML"),
        ("ok: 1\nb: x\x1fy", "t.yml:2:5", "U+001F"),
        ("a: \x00", "t.yml:1:4", "U+0000"),
        ("a: !!python/object/apply:os.system [id]", "t.yml:1:4", "python/object"),
        ("a: !!python/name:os.system", "t.yml:1:4", "python/name"),
        ("a: !mine x", "t.yml:1:4", "!mine"),
        ("a: !!set {b, c}", "t.yml:1:4", "set"),
        ("a: !!binary aGk=", "t.yml:1:4", "binary"),
        ("a: 2024-13-45", "t.yml:1:4", "cannot be read"),
        ("a: *nowhere", "t.yml:1:4", "undefined alias"),
        ("? [a, b]\n: c", "t.yml:1:3", "a key must be a text"),
        ("a: &a [*a]", "t.yml", "contains itself"),
        ("&a a: {<<: *a}", "t.yml:1:1", "merging"),
        ("[" * 5000, "t.yml:1:1001", "maximum nesting depth"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, location: str, says: str) -> None:
    [found] = diagnostics(text)
    assert found.startswith(f"{location}: ")
    assert says in found


def test_an_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    began = time.process_time()
    [found] = diagnostics("\n".join(lines))
    assert found == "t.yml: has aliases that expand to more than 1000000 items"
    assert time.process_time() - began < 2


def test_aliases_and_merges_are_read() -> None:
    text = "named:\n  a: &a {name: x, size: 2}\n  b: {<<: *a, size: 3}\n  c: *a"
    tree = validate_document(Tree, parse_document(text, "t"))
    assert [leaf.size for leaf in tree.named.values()] == [2, 3, 2]
    text = text.replace("size: 2", "size: 0")
    assert diagnostics(text)[0].startswith("t.yml:2:19: named.a.size")


def test_one_invocation_and_a_list_of_them() -> None:
    first = "{key: a, image: debian, command: [x]}"
    assert [invocation.key for invocation in parse_invocations(first, "i")] == ["a"]
    both = f"- {first}\n- {first.replace('key: a', 'key: b')}"
    assert [invocation.key for invocation in parse_invocations(both, "i")] == ["a", "b"]


def test_invocations_go_out_as_they_came_in() -> None:
    invocations = make_invocations(list(AWKWARD_TEXTS), seed=7, size=200)
    read = parse_invocations(dump_invocations(invocations), "out.yml")
    assert read == invocations
    assert [each.model_fields_set | {"key"} for each in read] == [
        each.model_fields_set | {"key"} for each in invocations
    ]


def test_all_problems_of_all_invocations_are_reported_at_once() -> None:
    text = """\
- key: one
  image: debian
  command: [x]
- key: two
  image: "a b"
  resources: {memory: "512", cpu: 2}
- command: []
  image: debian
- key: one
  image: debian
  command: [y]
"""
    image, memory, cpu, command, key = invocation_diagnostics(text)
    assert image.startswith("i.yml:5:3: [1].image: 'a b' is not a valid image reference; write ")
    assert memory.startswith("i.yml:6:15: [1].resources.memory: needs a number with a unit")
    assert cpu == "i.yml:6:30: [1].resources.cpu: is not a valid key; did you mean cpus?"
    assert command == "i.yml:7:3: [2].command: is empty; its first item names the program"
    assert key.startswith("i.yml:9:3: [3].key: 'one' is also the key at i.yml:1:3: [0].key; ")


def test_keys_with_units_are_suggested_too() -> None:
    text = "{image: d, command: [x], resources: {memry: 1G, max_memry: 2G}}"
    found = invocation_diagnostics(text)
    assert "did you mean memory?" in found[0]
    assert "did you mean max_memory?" in found[1]


def test_a_number_among_arguments_is_to_be_quoted() -> None:
    assert invocation_diagnostics("{image: d, command: [x, 2]}") == [
        "i.yml:1:25: command[1]: needs a text, not the number 2; put it in quotes"
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "null", "[]"])
def test_an_empty_text_is_reported_as_empty(text: str) -> None:
    [found] = invocation_diagnostics(text)
    assert "is empty" in found or "is an empty list" in found


@pytest.mark.parametrize("text", ["a", "12", "[[]]", "- a"])
def test_what_is_not_an_invocation_is_refused(text: str) -> None:
    [found] = invocation_diagnostics(text)
    assert "needs keys and values" in found


def test_a_large_json_file_is_read_quickly() -> None:
    text = json.dumps([{"key": f"k{n}", "image": "d", "command": ["x"]} for n in range(20_000)])
    began = time.process_time()
    assert len(parse_invocations(text, "i.json")) == 20_000
    assert time.process_time() - began < 10


def test_the_references_examples_are_read() -> None:
    reference = Path(__file__).parents[3] / "docs" / "reference" / "invocation.md"
    examples = re.findall(r"^```yaml\n(.*?)^```", reference.read_text(), re.DOTALL | re.MULTILINE)
    assert len(examples) >= 3
    vm_class = CapacityClass(memory_mb=512, virtual_machines=1, emulate=True)
    pool = Pool(classes=Pool().classes | {"vm": vm_class})
    destination = Destination(pool=pool)
    for example in examples:
        for invocation in parse_invocations(example, reference.name):
            swarm_runner_route(invocation, destination, destination.pool)


@pytest.mark.parametrize("name", ["invocation.md", "job_conf.md"])
def test_the_reference_names_every_key(name: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / name).read_text()
    models: dict[str, tuple[type[FrozenModel], ...]] = {
        "invocation.md": (Invocation, Resources, VirtualMachine, Disk, SuccessMarker),
        "job_conf.md": (RunnerSection, Pool, CapacityClass, JobUser, DestinationParameters),
    }
    for model in models[name]:
        for key in set(model.model_fields) - {"raw_commands"}:
            assert re.search(rf"[`{{ ]{key}[`,}}]", text), f"{model.__name__}.{key}"


def test_the_reference_names_every_outcome() -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "outcomes.md").read_text()
    assert [kind for kind in OutcomeKind if f"| `{kind}` |" not in text] == []

"""Every refusal of an executor's gateway has a rule, by which it is counted."""

from __future__ import annotations

import ast
from importlib import resources

import pytest

from swarm_runner.model.refusals import OTHER_RULE, RULES, refusing_rule

PREFIX = "swarm-runner refused this job: "


def _sentences() -> list[str]:
    """Return what gateway_policy.py raises, with an x for each value."""
    image = resources.files("swarm_runner.swarm") / "image"
    tree = ast.parse((image / "gateway_policy.py").read_text())
    sentences = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeniedError":
            (argument,) = node.args
            parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
            texts = [str(p.value) if isinstance(p, ast.Constant) else "x" for p in parts]
            sentences.append("".join(texts))
    return [sentence for sentence in sentences if sentence != "x"]


def test_every_sentence_of_the_gateway_has_a_rule() -> None:
    sentences = _sentences()
    assert len(sentences) > 15
    unknown = [s for s in sentences if refusing_rule(PREFIX + s) in (None, OTHER_RULE)]
    assert unknown == []
    found = {refusing_rule(PREFIX + sentence) for sentence in sentences}
    assert found == {*RULES} - {OTHER_RULE}


@pytest.mark.parametrize(
    ("sentence", "rule"),
    [
        ("it asks for the network 'host', and the pool allows none", "network"),
        ("it asks to mount '/home', which is not on any of the pool's volumes", "volume"),
        ("its directory '/data/x' is a link to '/etc', which is on no volume", "volume"),
        ("image 'x' has no digest, and the pool has isolation.require_digest", "image_digest"),
        ("image 'network' is none that the pool allows (isolation.images: a)", "image"),
        ("it would run as user '0:0', and the pool's jobs run as 1:1", "user"),
        ("something that a later gateway says", OTHER_RULE),
    ],
)
def test_rules(sentence: str, rule: str) -> None:
    assert refusing_rule(PREFIX + sentence) == rule
    reason = f"[swarm-runner refused] The pool does not allow it. {PREFIX}{sentence}"
    assert refusing_rule(reason) == rule


def test_other_reasons_are_no_refusals() -> None:
    assert refusing_rule("Cannot pull image x") is None
    assert refusing_rule("") is None

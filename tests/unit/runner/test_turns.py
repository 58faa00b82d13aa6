"""Whose turn it is, and why."""

from __future__ import annotations

import time
from typing import Any

from swarm_runner.condor.accounting import submitters_from_ads
from swarm_runner.model.submitter import Submitter
from swarm_runner.runner.turns import explain_turn, turn_order


def user(name: str, priority: float = 500, **kwargs: Any) -> Submitter:
    return Submitter(name=name, priority=priority, **{"idle_jobs": 1} | kwargs)


def group(name: str, used: float, quota: float) -> Submitter:
    return Submitter(name=name, is_group=True, cpus_in_use=used, quota=quota)


def names(*submitters: Submitter) -> list[str]:
    return [each.name for each in turn_order(submitters)]


def test_the_lowest_number_comes_first() -> None:
    assert names(user("a", 900), user("b", 500), user("c", 700, idle_jobs=0)) == ["b", "a"]


def test_floors_come_first_and_ceilings_end_it() -> None:
    floor = user("floor", 9000, floor=2, cpus_in_use=1)
    ceiling = user("ceiling", 1, ceiling=2, cpus_in_use=2)
    assert names(user("a"), floor, ceiling) == ["floor", "a"]
    assert names(user("a"), user("full", 9000, floor=2, cpus_in_use=2)) == ["a", "full"]


def test_groups_that_use_the_smallest_part_of_their_quota_come_first() -> None:
    submitters = (
        group("one", 3, 4),
        group("two", 4, 8),
        user("one.a", 1, group="one"),
        user("two.b", 900, group="two"),
        user("alone", 0),
    )
    assert names(*submitters) == ["two.b", "one.a", "alone"]
    (sentence, order) = explain_turn({"AccountingGroup": "one.a"}, submitters)
    assert sentence == (
        "it is the turn of two/b (0 CPUs in use, priority 900.0); one/a (0 CPUs in use, priority "
        "1.0), this job's user, is number 2 of 3 users who wait: group two uses 4 of its 8 CPUs, "
        "the smallest part"
    )
    assert order.startswith("the order of turns: two/b (")


def test_the_sentences() -> None:
    anna, bob = user("galaxy.anna_40uni", 600, cpus_in_use=3), user("galaxy.bob", 500)
    (sentence, _) = explain_turn({"AccountingGroup": "Galaxy.anna_40uni"}, (anna, bob))
    assert "it is the turn of galaxy/bob" in sentence
    assert (
        "galaxy/anna@uni (3 CPUs in use, priority 600.0), this job's user, is number 2" in sentence
    )
    assert "the lowest priority number comes first" in sentence
    (sentence, _) = explain_turn({"AccountingGroup": "galaxy.bob"}, (anna, bob))
    assert sentence.startswith("it is the turn of galaxy/bob (0 CPUs in use, priority 500.0), this")
    full = user("alice", ceiling=2, cpus_in_use=2)
    (sentence,) = explain_turn({"Owner": "alice"}, (full, bob))
    assert "has reached the ceiling of 2 CPUs (pool.shares.users)" in sentence
    below = user("carol", 900, floor=2)
    (sentence, _) = explain_turn({"Owner": "alice"}, (user("alice"), below))
    assert "who is below the floor of 2 CPUs" in sentence


def test_no_sentence_for_a_user_who_is_alone_or_unknown() -> None:
    assert explain_turn({"Owner": "alice"}, (user("alice"),)) == ()
    assert explain_turn({"Owner": "alice"}, (user("bob"), user("carol"))) == ()
    assert explain_turn({}, ()) == ()


def test_ten_thousand_users_are_ordered_at_once() -> None:
    many = [user(f"galaxy.u{n}", 500 + n, group="galaxy") for n in range(10_000)]
    begin_s = time.process_time()
    lines = explain_turn({"AccountingGroup": "galaxy.u9999"}, [group("galaxy", 1, 2), *many])
    assert time.process_time() - begin_s < 1
    assert "is number 10000 of 10000 users who wait" in lines[0]
    assert lines[1].endswith(", and 9995 more")


def test_ads_of_the_collector_and_the_negotiator() -> None:
    waiting = [
        {"Name": "galaxy.anna@pool", "IdleJobs": 3},
        {"Name": "galaxy.anna@pool", "IdleJobs": 2},
        {"Name": "new@pool", "IdleJobs": 1},
        {"Name": "gone@pool", "IdleJobs": 0},
    ]
    priorities = [
        {"Name": "<none>", "IsAccountingGroup": True, "EffectiveQuota": 3.0},
        {"Name": "galaxy", "IsAccountingGroup": True, "EffectiveQuota": 3.0, "AccountingGroup": ""},
        {
            "Name": "galaxy.anna@pool",
            "AccountingGroup": "galaxy",
            "WeightedResourcesUsed": 2.0,
            "Priority": 512.5,
            "Ceiling": 4,
            "Floor": 0,
        },
        {"Name": "gone@pool", "AccountingGroup": "<none>", "Ceiling": -1, "Priority": 500.0},
    ]
    found = {each.name: each for each in submitters_from_ads(waiting, priorities)}
    assert set(found) == {"galaxy", "galaxy.anna", "new"}
    assert found["galaxy"].is_group
    assert found["galaxy"].quota == 3
    anna = found["galaxy.anna"]
    assert (anna.idle_jobs, anna.cpus_in_use, anna.priority) == (5, 2, 512.5)
    assert (anna.ceiling, anna.floor, anna.group) == (4, None, "galaxy")

from __future__ import annotations

import pytest

from tests.polling import poll_until


def test_it_returns_the_first_observation_that_meets_the_condition() -> None:
    observations = iter(range(5))
    assert poll_until(lambda: next(observations), lambda found: found >= 3, interval_s=0) == 3


def test_it_fails_with_the_last_observation() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s; the last observation: \[\]"):
        poll_until(list, timeout_s=0)


def test_exceptions_are_retried_if_they_are_expected() -> None:
    observations = iter([0, 2])
    assert poll_until(lambda: 1 // next(observations) + 1, retry_on=(ZeroDivisionError,)) == 1
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        poll_until(lambda: 1 // 0, retry_on=(ZeroDivisionError,), timeout_s=0)
    with pytest.raises(ZeroDivisionError):
        poll_until(lambda: 1 // 0, timeout_s=0)

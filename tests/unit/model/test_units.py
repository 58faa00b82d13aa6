"""Quantities as HTCondor, Galaxy, TPV, Kubernetes and Snakemake write them."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from swarm_runner.model.units import MAXIMUM_QUANTITY_MB, integer, megabytes, round_up_cpus

FACTORS = {
    **dict.fromkeys(["", "M", "MB", "Mi", "MiB", "m", "mb", "mib"], Fraction(1)),
    **dict.fromkeys(["K", "KB", "Ki", "KiB", "k", "kb", "kib"], Fraction(1, 1024)),
    **dict.fromkeys(["G", "GB", "Gi", "GiB", "g", "gb", "gib"], Fraction(1024)),
    **dict.fromkeys(["T", "TB", "Ti", "TiB", "t", "tb", "tib"], Fraction(1024**2)),
    **dict.fromkeys(["P", "PB", "Pi", "PiB"], Fraction(1024**3)),
    **dict.fromkeys(["B", "b", "bytes"], Fraction(1, 1024**2)),
}


@pytest.mark.parametrize(
    ("value", "amount_mb"),
    [
        ("11.399999999999999G", 11674),
        ("22.799999999999997G", 23348),
        ("11673.599999999999", 11674),
        (11673.599999999999, 11674),
        ("3.8G", 3892),
        ("1e3", 1000),
        ("1.5E+1Gi", 15360),
        ("5e-1 GB", 512),
        (".5G", 512),
        ("2.G", 2048),
        ("+2G", 2048),
        ("1048577B", 2),
        ("0", 0),
        (0.0, 0),
        ("1e-300", 1),
        ("0." + "0" * 400 + "1T", 1),
    ],
)
def test_forms(value: object, amount_mb: int) -> None:
    assert megabytes(value, unit_required=False) == amount_mb


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "G", "-1", "-1G", "nan", "inf", "-inf", "infinity", "NaN G", "1,5G", "1_000"),
        *("0x10", "1 2", "1GM", "1Gib8", "{mem}", "lots", "1e", "1e5e5", "٣G", "1\nG", "²", "1m2"),
        *(-1, -0.5, math.nan, math.inf, -math.inf, True, False, None, [], {}, b"1G", Decimal(1)),
    ],
)
def test_what_cannot_be_an_amount(value: object) -> None:
    with pytest.raises(PydanticCustomError, match=r'such as "512M", "2 GB" or "1\.5GiB"'):
        megabytes(value, unit_required=False)


@pytest.mark.parametrize("value", ["1e999", "9" * 400, "9" * 40 + "G", "1e30T", 10**400, 1e300])
def test_a_huge_amount_is_refused(value: object) -> None:
    with pytest.raises(PydanticCustomError, match="too large an amount"):
        megabytes(value, unit_required=False)


def test_a_very_long_text_is_refused_at_once() -> None:
    with pytest.raises(PydanticCustomError):
        megabytes("1" * 1_000_000)


mantissas = st.from_regex(r"[0-9]{1,12}(\.[0-9]{0,40})?", fullmatch=True)
exponents = st.one_of(st.just(""), st.integers(-20, 6).map(lambda n: f"e{n}"))
spaces = st.sampled_from(["", " ", "  "])


@given(mantissas, exponents, spaces, st.sampled_from(sorted(FACTORS)))
def test_an_amount_is_exact_and_rounded_up(
    mantissa: str, exponent: str, space: str, unit: str
) -> None:
    exact = Fraction(Decimal(mantissa + exponent)) * FACTORS[unit]
    text = f"{mantissa}{exponent}{space}{unit}"
    if exact > MAXIMUM_QUANTITY_MB:
        with pytest.raises(PydanticCustomError):
            megabytes(text, unit_required=False)
        return
    assert megabytes(text, unit_required=False) == math.ceil(exact)
    if unit:
        assert megabytes(text) == math.ceil(exact)


@given(st.floats(0, MAXIMUM_QUANTITY_MB))
def test_a_float_and_its_text_are_the_same_amount(number: float) -> None:
    amount = megabytes(number, unit_required=False)
    assert amount == math.ceil(Fraction(number))
    # Its text has the fewest digits that give the same float.
    assert abs(megabytes(repr(number), unit_required=False) - amount) <= 1


@given(st.one_of(st.text(max_size=30), st.text("0123456789.eE+-KMGTPiBb ", max_size=30)))
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    for unit_required in (True, False):
        try:
            amount = megabytes(text, unit_required=unit_required)
        except PydanticCustomError:
            continue
        assert 0 <= amount <= MAXIMUM_QUANTITY_MB
        assert unit_required <= (amount == megabytes(text, unit_required=False))


@pytest.mark.parametrize(
    ("value", "expected"), [("4", 4), ("4.0", 4), (4.0, 4), (" 4 ", 4), ("4.", 4), (4, 4)]
)
def test_an_integer_may_be_a_text(value: object, expected: int) -> None:
    assert integer(value) == expected


@pytest.mark.parametrize("value", ["4.5", 4.5, "four", True, None, "", "1" * 40, math.inf])
def test_what_is_not_an_integer_stays(value: Any) -> None:
    assert integer(value) is value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(4, 4), ("4", 4), (" 4 ", 4), ("4.", 4), (4.0, 4), ("+4", 4), ("4e0", 4)],
        *[("1.5", 2), (1.5, 2), ("0.1", 1), (".5", 1), ("1e-3", 1), ("4.001", 5)],
        *[("3.9999999999999996", 4), (0.1 * 3 * 10, 3), ("3.0000000000000004", 3)],
        *[("500m", 1), ("1500m", 2), ("2000 m", 2), ("0", 0), (-0.5, 0), ("1e-300", 0)],
    ],
)
def test_cpus_are_rounded_up(value: object, expected: int) -> None:
    assert round_up_cpus(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "four", "-1", "nan", "inf", "1,5", "0x4", "{cores}", "2 G", "2M", "1 2", "m"),
        *(True, None, [], {}, b"4", math.nan, math.inf, Decimal(1), "1" * 1_000_000),
    ],
)
def test_what_is_not_a_number_of_cpus(value: object) -> None:
    with pytest.raises(PydanticCustomError, match="needs a number of CPUs, such as 4, not"):
        round_up_cpus(value)


@given(mantissas, exponents)
def test_a_number_of_cpus_and_its_thousandths_are_the_same(mantissa: str, exponent: str) -> None:
    exact = Fraction(Decimal(mantissa + exponent))
    number = round_up_cpus(mantissa + exponent)
    assert number - 1 < exact <= number + Fraction(1, 10**6)
    assert round_up_cpus(f"{int(exact * 1000)}m") in (number, number - 1)


@given(st.text("0123456789.eE+-m ", max_size=30))
def test_any_text_is_a_number_of_cpus_or_refused(text: str) -> None:
    try:
        number = round_up_cpus(text)
    except PydanticCustomError:
        return
    assert number >= 0

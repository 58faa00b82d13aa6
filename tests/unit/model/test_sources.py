"""Inputs by URL at the door: what is accepted, its normal form, and what is refused."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from swarm_runner.model.files import InputFile
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Pool
from swarm_runner.model.sources import InputUrl, Source, SourceUrl, plugin_data, source_problems

SHA = "sha256:" + "0" * 64
_URL: TypeAdapter[str] = TypeAdapter(SourceUrl)


def inputs_of(*inputs: object, **fields: Any) -> tuple[object, ...]:
    document = {"image": "debian", "command": ["true"], "inputs": list(inputs)} | fields
    return Invocation.model_validate(document).inputs


def messages(*inputs: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        inputs_of(*inputs)
    return [error["msg"] for error in caught.value.errors()]


def test_the_shapes_of_an_input() -> None:
    url = "https://data.example.org/a/reads.fq.gz?v=2"
    assert inputs_of(
        url,
        {"source": url, "name": "in/x", "checksum": SHA.upper()},
        "local",
        {"source": "l"} | {"name": "m"},
    ) == (
        InputUrl(source=url, name="reads.fq.gz"),
        InputUrl(source=url, name="in/x", checksum=SHA),
        "local",
        InputFile(source="l", name="m"),
    )
    by_name = {"image": "debian", "command": ["true"], "inputs": {"x": url}}
    assert Invocation.model_validate(by_name).inputs == (InputUrl(source=url, name="x"),)


def test_an_invocation_with_urls_survives_its_own_json() -> None:
    document = {"image": "debian", "command": ["true"], "inputs": ["https://h.org/a%20b", "c"]}
    invocation = Invocation.model_validate(document)
    assert Invocation.model_validate_json(invocation.model_dump_json()) == invocation
    assert Invocation.model_validate(invocation.model_dump()) == invocation


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTPS://Data.Example.ORG", None),
        ("https://h.org:443/a", "https://h.org/a"),
        ("http://h.org:80/a", "http://h.org/a"),
        ("https://h.org:8443/a", "https://h.org:8443/a"),
        ("https://h.org/a b,c", "https://h.org/a%20b%2Cc"),
        ("https://h.org/$(X)", "https://h.org/%24(X)"),
        ("https://h.org/größe", "https://h.org/gr%C3%B6%C3%9Fe"),
        ('https://h.org/"x"', "https://h.org/%22x%22"),
        ("https://h.org/a?X-Sig=a%2Fb,c&d=/?", "https://h.org/a?X-Sig=a%2Fb%2Cc&d=/?"),
        ("https://[2001:DB8::1]/a", "https://[2001:db8::1]/a"),
        ("https://10.1.2.3/a", "https://10.1.2.3/a"),
    ],
)
def test_the_normal_form(url: str, normal: str | None) -> None:
    assert _URL.validate_python(url) == (normal or "https://data.example.org/")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://alice:secret@h.org/a", "has a user or a password"),
        ("https://alice@h.org/a", "has a user or a password"),
        ("https://h.org/a#part", "has a fragment"),
        ("https://h.org/a#", "has a fragment"),
        ("https://h.org/a\nb", "control character"),
        ("https://h.org/a%0Ab", "encoded control character"),
        ("https://h.org/a%00b", "encoded control character"),
        ("https://h.org/a%", "without two hexadecimal digits"),
        ("https://h.org/a%zz", "without two hexadecimal digits"),
        ("https://h.org/x/../a", "a . or .. in its path"),
        ("https://h.org/x/%2e%2E/a", "a . or .. in its path"),
        ("https://h.org/x/..%2Fa", "a . or .. in its path"),
        ("https://h.org/x/..%5Ca", "a . or .. in its path"),
        ("ftp://h.org/a", "the scheme ftp"),
        ("file:///etc/passwd", "the scheme file"),
        ("s3://bucket/key", "presigned"),
        ("https:///a", "names no host"),
        ("https://h.org:0/a", "names no host"),
        ("https://h.org:99999/a", "names no host"),
        ("https://h.org:80:80/a", "names no host"),
        ("https://127.1/a", "no valid host"),
        ("https://0x7f000001/a", "no valid host"),
        ("https://2130706433/a", "no valid host"),
        ("https://größe.org/a", "no valid host"),
        ("https://a b/c", "no valid host"),
        ("https://[::1/a", "names no host"),
        ("https://h.org/" + "a" * 9000, "9014 characters"),
        ("https://h.org/directory/", "names no file"),
        ("https://h.org", "names no file"),
    ],
)
def test_bad_urls_are_refused(url: str, message: str) -> None:
    (found,) = messages(url)
    assert message in found
    assert "secret" not in found


def test_all_faults_are_reported_at_once() -> None:
    found = messages(
        "https://a:b@h.org/x",
        "gopher://h.org/x",
        {"source": "https://h.org/x", "checksum": "md5:1"},
    )
    assert len(found) == 3


@pytest.mark.parametrize("checksum", ["", "sha256:", "crc32:00000000", "sha256:" + "g" * 64, "md5"])
def test_a_checksum_that_is_none(checksum: str) -> None:
    (found,) = messages({"source": "https://h.org/x", "checksum": checksum})
    assert "is not a checksum" in found


@pytest.mark.parametrize("name", ["../x", "/x", ".", "a/../..", "x://y"])
def test_a_name_outside_of_the_jobs_directory(name: str) -> None:
    assert messages({"source": "https://h.org/x", "name": name})


def test_two_inputs_with_one_name() -> None:
    (found,) = messages("https://h.org/1/x", "https://h.org/2/x")
    assert "would both become 'x'" in found
    (found,) = messages("https://h.org/1/x", "d/../x")
    assert "would both become 'x'" in found


def test_a_checksum_is_for_urls_only() -> None:
    (found,) = messages({"source": "local", "name": "x", "checksum": SHA})
    assert "not permitted" in found


def sources(*values: object) -> tuple[Source, ...]:
    return Pool.model_validate({"sources": list(values)}).sources


def problems(url: str, *values: object) -> list[tuple[str, str]]:
    return list(source_problems([InputUrl.model_validate({"source": url})], sources(*values)))


@pytest.mark.parametrize(
    ("url", "source", "allowed"),
    [
        ("https://h.org/a", "https://h.org", True),
        ("https://h.org/a", "https://H.org:443/", True),
        ("https://h.org/a", "http://h.org", False),
        ("https://h.org/a", "https://h.org:8443", False),
        ("https://h.org.evil/a", "https://h.org", False),
        ("https://x.h.org/a", "https://h.org", False),
        ("https://x.h.org/a", "https://*.h.org", True),
        ("https://y.x.h.org/a", "https://*.h.org/", True),
        ("https://h.org/a", "https://*.h.org", False),
        ("https://evilh.org/a", "https://*.h.org", False),
        ("https://h.org/public/a", "https://h.org/public", True),
        ("https://h.org/public/a", "https://h.org/public/", True),
        ("https://h.org/public2/a", "https://h.org/public", False),
        ("https://h.org/public?x", "https://h.org/public", True),
    ],
)
def test_what_is_below_a_source(url: str, source: str, allowed: bool) -> None:
    assert (problems(url, source) == []) is allowed


def test_the_message_names_the_sources_and_no_query() -> None:
    ((field, message),) = problems(
        "https://evil.org/a?sig=secret", "https://h.org", "https://i.org"
    )
    assert field == "inputs"
    assert "https://evil.org/a is below none" in message
    assert "https://h.org/, https://i.org/" in message
    assert "secret" not in message
    ((_, message),) = problems("https://evil.org/a")
    assert "(none)" in message


@pytest.mark.parametrize(
    "source",
    [
        "https://h.org/?q",
        "https://*.org",
        "https://*",
        "https://*.10.0.0.1/",
        "https://u@h.org",
        "s3://bucket",
        "h.org",
        {"url": "http://h.org", "authorization": "token"},
        {"url": "https://h.org", "authorization": "no name"},
    ],
)
def test_a_bad_source_is_refused(source: object) -> None:
    with pytest.raises(ValidationError):
        sources(source)


def test_a_source_with_everything() -> None:
    (source,) = sources(
        {"url": "http://10.1.2.3:8080/d", "private": True, "authorization": "token"}
    )
    assert (source.url, source.private, source.authorization) == (
        "http://10.1.2.3:8080/d",
        True,
        "token",
    )


hostile = st.text(max_size=40) | st.text(alphabet='%2eE./\\?#@:[]$()," \t\n-aÄ', max_size=40)


@given(hostile, hostile)
def test_no_text_breaks_out(host: str, rest: str) -> None:
    """What is accepted has only characters without a meaning, in HTCondor's list and in its ad."""
    try:
        item = InputUrl.model_validate({"source": f"https://{host}/{rest}"})
    except ValidationError:
        return
    assert re.fullmatch(r"https://[a-z0-9_.:\[\]-]+/[A-Za-z0-9._~/%:@!&'()*+;=?-]*", item.source)
    data = plugin_data([item])
    assert re.fullmatch(r"[A-Za-z0-9._~%&=+-]+", data)
    fields = parse_qs(data, keep_blank_values=True)
    assert fields == {"url": [item.source], "name": [item.name], "checksum": [""]}
    assert InputUrl.model_validate(item.model_dump()) == item

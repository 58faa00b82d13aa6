"""Inputs by URL: what an invocation may name, and the sources from which a pool fetches them."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self
from urllib.parse import quote, unquote, urlencode

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    field_validator,
    model_validator,
)

from swarm_runner.model.monitoring import SecretName
from swarm_runner.model.text import (
    FrozenModel,
    SandboxPath,
    list_names,
    refusal,
    reject_control_characters,
)

if TYPE_CHECKING:
    from swarm_runner.model.files import InputFile

# Stands for the inputs of an invocation that needs staging, until the runner has staged them.
STAGED_INPUTS = "swarm-runner-staged-inputs/."
# The same as in swarm/image/source_policy.py, which decides about redirects, too.
DEFAULT_PORTS = {"https": 443, "http": 80}
MAX_URL_LENGTH = 8000  # what most servers accept
MAX_SOURCES = 200
# Of each algorithm, the number of hexadecimal digits.
_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)"
    r"(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.DOTALL,
)
_USER = re.compile(r"//[^/?#]*@")  # messages show no password
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_HOST = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What stays as it is. A comma separates files in HTCondor's lists, and a dollar starts a macro.
_SAFE_IN_PATH = "/%:@!&'()*+;=~"
_SAFE_IN_QUERY = _SAFE_IN_PATH + "?"


class UrlParts(NamedTuple):
    """What decides whether a URL is below a source."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def origin(self) -> str:
        """The URL without path and query; the default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def split_url(url: str) -> UrlParts:
    """Return the parts of a URL, percent-encoded. Raises pydantic's error if it is refused."""
    reject_control_characters(url)
    shown = repr(_USER.sub("//", url.partition("?")[0]))
    if len(url) > MAX_URL_LENGTH:
        raise refusal(f"has {len(url)} characters, more than the {MAX_URL_LENGTH} of a URL")
    match = _URL.fullmatch(url)
    if match is None:
        raise refusal(f"{shown} is not a URL; write https://host/path")
    scheme = match["scheme"].lower()
    if scheme == "s3":
        raise refusal(
            f"{shown} has no scheme that the pool fetches; write the object's https URL, presigned "
            "if it is not public (aws s3 presign)"
        )
    if scheme not in DEFAULT_PORTS:
        raise refusal(f"{shown} has the scheme {scheme}; the pool fetches https and http")
    if "@" in match["authority"]:
        raise refusal(
            f"{shown} has a user or a password before its host, which everybody who reads the "
            "queue would see; remove it: the administrator gives the pool a login for a source "
            "(pool.sources, authorization)"
        )
    if match["fragment"] is not None:
        raise refusal(f"{shown} has a fragment (#...), which no server receives; remove it")
    host, port = _host_and_port(match["authority"], scheme, shown)
    path, query = match["path"] or "/", match["query"] or ""
    if _BAD_PERCENT.search(path + query):
        raise refusal(f"{shown} has a % without two hexadecimal digits; write %25 for a %")
    decoded = unquote(path)
    if _CONTROL.search(decoded):
        raise refusal(f"{shown} has an encoded control character in its path; remove it")
    if {".", ".."} & set(re.split(r"[/\\]", decoded)):
        raise refusal(f"{shown} has a . or .. in its path; write the path that it leads to")
    return UrlParts(
        scheme, host, port, quote(path, safe=_SAFE_IN_PATH), quote(query, safe=_SAFE_IN_QUERY)
    )


def _host_and_port(authority: str, scheme: str, shown: str) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(authority)
    port = int(match["port"] or DEFAULT_PORTS[scheme]) if match else 0
    if match is None or not 1 <= port <= 65_535:
        raise refusal(f"{shown} names no host, or a port that is none; write https://host/path")
    host = match["host"].lower()
    try:
        return str(ipaddress.ip_address(host.strip("[]"))), port
    except ValueError:
        # `127.1` and `0x7f000001` are addresses for a resolver.
        if not _HOST.fullmatch(host) or re.fullmatch(r"0x[0-9a-f]*|[0-9]+", host.rsplit(".")[-1]):
            raise refusal(
                f"{shown} names no valid host; write a DNS name (xn--... for other letters) or an "
                "IP address"
            ) from None
    return host, port


def _source_url(value: str) -> str:
    parts = split_url(value)
    return f"{parts.origin}{parts.path}{parts.query}"


def _checksum(value: str) -> str:
    algorithm, _, digits = value.lower().partition(":")
    if algorithm not in _DIGITS or not re.fullmatch(rf"[0-9a-f]{{{_DIGITS[algorithm]}}}", digits):
        forms = ", ".join(f"{name}: ({count} digits)" for name, count in _DIGITS.items())
        raise refusal(
            f"{value[:150]!r} is not a checksum; write the algorithm and its hexadecimal digits: "
            f"{forms}"
        )
    return f"{algorithm}:{digits}"


SourceUrl = Annotated[str, AfterValidator(_source_url)]
Checksum = Annotated[str, AfterValidator(_checksum)]


class InputUrl(FrozenModel):
    """An input that the pool fetches, on the node where the job runs."""

    source: SourceUrl = Field(description="an https or http URL below one of the pool's `sources`")
    name: SandboxPath = Field(
        "", description="its path in the job's directory; the last part of the URL when absent"
    )
    checksum: Checksum | None = Field(
        None, description="what it has to be: md5:, sha1:, sha256: or sha512: and the digits"
    )

    @model_validator(mode="before")
    @classmethod
    def _set_name(cls, value: Any) -> Any:
        """Name the input by the last part of its URL."""
        if isinstance(value, Mapping) and is_url(value) and "name" not in value:
            parts = split_url(value["source"])
            name = posixpath.basename(unquote(parts.path))
            if not name:
                shown = f"{parts.origin}{parts.path}"
                raise refusal(
                    f"{shown} names no file; write {{source: {shown}, name: file}} with the name "
                    "that it gets in the job's directory"
                )
            return {**value, "name": name}
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if value == ".":
            raise refusal("is a directory; name a file")
        return value

    @property
    def shown(self) -> str:
        """The URL for messages: without its query, which may have a signature."""
        return self.source.partition("?")[0]


def is_url(value: object) -> bool:
    """Return whether an input is meant as a URL: a text, or a mapping with one as its source."""
    if isinstance(value, Mapping):
        value = value.get("source")
    return isinstance(value, InputUrl) or (isinstance(value, str) and "://" in value)


def as_input_url(value: Any) -> InputUrl:
    """Return an input that is a URL, from what a user writes. Raises pydantic's error."""
    return InputUrl.model_validate({"source": value} if isinstance(value, str) else value)


def local_inputs(inputs: Iterable[str | InputFile | InputUrl]) -> list[str | InputFile]:
    """Return the inputs that are on the submitting host."""
    return [item for item in inputs if not isinstance(item, InputUrl)]


def transfer_list(inputs: Iterable[Any], staged: str | None = None) -> list[str]:
    """Return the inputs for HTCondor's list of files; `staged` stands for all that are no URLs."""
    return [
        *([] if staged is None else [staged]),
        *(
            item if isinstance(item, str) else item.source
            for item in inputs
            if staged is None or isinstance(item, InputUrl)
        ),
    ]


def plugin_data(inputs: Iterable[object]) -> str:
    """Return what HTCondor carries to the program that fetches (swarm/image/url_plugin.py).

    It has no character that has a meaning in a ClassAd or in the submit language, and is empty if
    no input is a URL.
    """
    return " ".join(
        urlencode({"url": item.source, "name": item.name, "checksum": item.checksum or ""})
        for item in inputs
        if isinstance(item, InputUrl)
    )


def _prefix(value: str) -> str:
    """Return a source's URL in its normal form; the host may begin with `*.`."""
    wildcard = "://*." in value
    parts = split_url(value.replace("://*.", "://", 1))
    if parts.query:
        raise refusal(f"{value!r} has a query; write the beginning of the URLs up to the path")
    if wildcard and ("." not in parts.host or parts.host.replace(".", "").isdigit()):
        raise refusal(f"{value!r} allows too many hosts; write *. before a domain of your choice")
    origin = parts.origin.replace("://", "://*.", 1) if wildcard else parts.origin
    return f"{origin}{parts.path}"


class Source(FrozenModel):
    """Where the pool fetches inputs from. The executors enforce it, whatever a job's ad says."""

    url: Annotated[str, AfterValidator(_prefix)] = Field(
        description="the beginning of the URLs, up to a `/` of the path; `https://*.example.org` "
        "is all hosts of that domain"
    )
    private: StrictBool = Field(
        False, description="whether its host may have an address of a private network (10.0.0.0/8)"
    )
    authorization: SecretName | None = Field(
        None,
        description="a Swarm secret with the value of the header `Authorization`, such as "
        "`Bearer ...`, that is sent to this source only",
    )

    @model_validator(mode="after")
    def _check_authorization(self) -> Self:
        if self.authorization and self.url.startswith("http:") and not self.private:
            raise refusal(
                f"{self.url} would receive the authorization without encryption; write https, or "
                "private: true if it is in your own network"
            )
        return self

    @property
    def is_wildcard(self) -> bool:
        """Whether the source is all hosts of a domain."""
        return "://*." in self.url

    @property
    def parts(self) -> UrlParts:
        """The parts of its URL. The host of a wildcard is the domain."""
        return split_url(self.url.replace("://*.", "://", 1))

    def contains(self, url: UrlParts) -> bool:
        """Return whether a URL is below this source."""
        own = self.parts
        host = url.host.endswith(f".{own.host}") if self.is_wildcard else url.host == own.host
        directory = own.path.rstrip("/") + "/"
        return (
            host
            and (url.scheme, url.port) == (own.scheme, own.port)
            and (url.path.startswith(directory) or url.path == own.path)
        )


def _source(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


Sources = Annotated[
    tuple[Annotated[Source, BeforeValidator(_source)], ...], Field(max_length=MAX_SOURCES)
]


def source_problems(
    inputs: Iterable[object], sources: Sequence[Source]
) -> Iterator[tuple[str, str]]:
    """Yield the field of each input that a pool with these sources does not fetch, and why."""
    allowed = list_names([source.url for source in sources]) or "none"
    for item in inputs:
        if not isinstance(item, InputUrl):
            continue
        url = split_url(item.source)
        if not any(source.contains(url) for source in sources):
            yield (
                "inputs",
                (
                    f"{item.shown} is below none of the sources from which the pool fetches inputs "
                    f"({allowed}); download it first, put it on a pool volume, or ask the "
                    "administrator to add it to pool.sources"
                ),
            )

"""What an executor fetches for jobs, and from which addresses; no I/O but the settings' file.

The pool's setting `sources` decides, whatever a job's ad says: scheme, host, port and path of the
URL and of every redirect, and the address that is connected to.
"""

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

PLUGIN = "/usr/local/libexec/swarm-runner/url_plugin.py"
SETTINGS_FILE = Path("/run/swarm-runner-sources.json")  # jobs' containers do not see it
# An input that takes longer is given up. HTCondor's default is 20 hours.
LIFETIME_S = 6 * 3600
DEFAULT_PORTS = {"https": 443, "http": 80}
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?",
    re.IGNORECASE,
)
# What a source with `private` may have beside public addresses.
_PRIVATE = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)
# Where clouds answer for a node, outside of the link-local networks: AWS by IPv6, Azure and Oracle.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "168.63.129.16", "192.0.0.192")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class DeniedError(Exception):
    """The pool does not fetch this. The message says why."""


@dataclass(frozen=True)
class Source:
    """One of the pool's sources. `authorization` is the path of a secret's file."""

    scheme: str
    host: str
    port: int
    path: str
    wildcard: bool = False
    private: bool = False
    authorization: str | None = None


@dataclass(frozen=True)
class Url:
    """The parts of a URL that was accepted."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    @property
    def authority(self) -> str:
        """The host, and the port unless it is the default one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The URL for messages: without its query, which may have a signature."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_sources(text: str) -> tuple[Source, ...]:
    """Return the sources in the executor's environment."""
    return tuple(Source(**values) for values in json.loads(text))


def configuration(environment: Mapping[str, str]) -> str:
    """Return HTCondor's configuration for a daemon of a pool that fetches, or nothing."""
    text = environment.get("SWARM_RUNNER_SOURCES")
    if text is None:
        return ""
    if environment["SWARM_RUNNER_ROLE"] != "executor":
        # The access point passes URLs on, and fetches nothing itself.
        return "ENABLE_URL_TRANSFERS = True\nFILETRANSFER_PLUGINS =\n"
    # The program reads secrets as root, and then becomes the user of the job for good.
    as_root = any(source.authorization for source in parse_sources(text))
    return (
        "ENABLE_URL_TRANSFERS = True\n"
        f"FILETRANSFER_PLUGINS = {PLUGIN}\n"
        f"RUN_FILETRANSFER_PLUGINS_WITH_ROOT = {as_root}\n"
        "STARTER_DISABLE_USER_SUPPLIED_TRANSFER_PLUGINS = True\n"
        f"MAX_FILE_TRANSFER_PLUGIN_LIFETIME = {LIFETIME_S}\n"
    )


def parse_url(text: str) -> Url:
    """Return the parts of a URL. Raises DeniedError; the message does not contain the query."""
    # What a server writes into a redirect is encoded, and never refused for that.
    encoded = quote(text, safe="/%:@!$&'()*+,;=~?#[]")
    match = _URL.fullmatch(encoded)
    shown = printable(encoded.partition("?")[0])
    if match is None:
        raise DeniedError(f"{re.sub('//[^/]*@', '//', shown)} is no URL that the pool fetches")
    scheme = match["scheme"].lower()
    port = int(match["port"] or DEFAULT_PORTS[scheme])
    host = match["host"].lower()
    try:
        host = str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        if host.startswith("["):
            raise DeniedError(f"{shown} names no valid host") from None
    path = match["path"] or "/"
    if {".", ".."} & set(re.split(r"[/\\]", unquote(path))):
        raise DeniedError(f"{shown} has a . or .. in its path")
    return Url(scheme, host, port, path, match["query"] or "")


def find_source(url: Url, sources: Iterable[Source]) -> Source:
    """Return the most specific source of a URL. Raises DeniedError if there is none."""
    found = [source for source in sources if _contains(source, url)]
    if not found:
        raise DeniedError(f"{printable(url.shown)} is not below any of the pool's sources")
    return max(found, key=lambda source: (not source.wildcard, len(source.host), len(source.path)))


def _contains(source: Source, url: Url) -> bool:
    host = url.host.endswith(f".{source.host}") if source.wildcard else url.host == source.host
    directory = source.path.rstrip("/") + "/"
    return (
        host
        and (url.scheme, url.port) == (source.scheme, source.port)
        and (url.path.startswith(directory) or url.path == source.path)
    )


def check_address(text: str, source: Source, own_networks: Iterable[Network]) -> None:
    """Raise DeniedError if nothing may be fetched from an address of a source's host."""
    address = _effective(ipaddress.ip_address(text.partition("%")[0]))
    if address in _METADATA or address.is_link_local or address.is_loopback:
        raise DeniedError(f"has the address {text}, which is the node's own or a cloud's")
    if any(address in network for network in own_networks if network.version == address.version):
        raise DeniedError(f"has the address {text}, which is in a network of the pool")
    special = address.is_multicast or address.is_reserved
    if address.is_global and not (special or getattr(address, "is_site_local", False)):
        return
    if not any(address in network for network in _PRIVATE if network.version == address.version):
        raise DeniedError(f"has the address {text}, which is reserved")
    if not source.private:
        raise DeniedError(
            f"has the address {text} of a private network, which a source needs `private: true` for"
        )


def _effective(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


def own_networks(routes: str, addresses6: str) -> list[Network]:
    """Return the networks of a container, from /proc/net/route and /proc/net/if_inet6."""
    networks: list[Network] = []
    for line in routes.splitlines()[1:]:
        fields = line.split()
        destination, mask = (
            int.from_bytes(bytes.fromhex(fields[column]), "little") for column in (1, 7)
        )
        if mask:  # not the default route
            length = mask.bit_count()
            networks.append(ipaddress.IPv4Network((destination, length), strict=False))
    for line in addresses6.splitlines():
        digits, _, length6, *_ = line.split()
        address = int(digits, 16)
        networks.append(ipaddress.IPv6Network((address, int(length6, 16)), strict=False))
    return networks


def printable(text: str) -> str:
    """Return text of a server or a job for a message: on one line, and not long."""
    cleaned = "".join(char if char.isprintable() else "?" for char in text)
    # HTCondor ends a message at these.
    cleaned = cleaned.replace("|", "%7C")
    return cleaned if len(cleaned) <= 300 else cleaned[:297] + "..."

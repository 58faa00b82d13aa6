"""A certificate authority, and bundles laid out as DOCKER_CERT_PATH wants them."""

from __future__ import annotations

import shutil
from pathlib import Path

import trustme

from tests.lab.hosts.layout import CERTIFICATES, Node, nodes

_PRIVATE_MODE = 0o600


def create() -> None:
    """All of one authority, unless they are there."""
    if CERTIFICATES.exists():
        return
    draft = CERTIFICATES.with_name("certificates.draft")
    shutil.rmtree(draft, ignore_errors=True)
    authority = trustme.CA(organization_name="swarm-runner-lab")
    for node in nodes():
        names = (node.address, "127.0.0.1", node.name)
        _write(authority, authority.issue_cert(*names), draft / node.name)
    _write(authority, authority.issue_cert("client"), draft / "client")
    draft.rename(CERTIFICATES)


def server(node: Node) -> Path:
    """The directory of a host's own certificate."""
    return CERTIFICATES / node.name


def client() -> Path:
    """DOCKER_CERT_PATH of one who may use the API."""
    return CERTIFICATES / "client"


def untrusted_bundle(directory: Path) -> Path:
    """A bundle of the right form, from an authority that nobody trusts."""
    authority = trustme.CA(organization_name="a stranger")
    _write(authority, authority.issue_cert("stranger"), directory)
    return directory


def _write(authority: trustme.CA, certificate: trustme.LeafCert, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    (directory / "cert.pem").write_bytes(
        b"".join(part.bytes() for part in certificate.cert_chain_pems)
    )
    key = directory / "key.pem"
    key.touch(mode=_PRIVATE_MODE)
    key.write_bytes(certificate.private_key_pem.bytes())

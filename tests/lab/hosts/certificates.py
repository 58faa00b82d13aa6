"""A certificate authority, and bundles for DOCKER_CERT_PATH."""

from __future__ import annotations

import shutil
from pathlib import Path

import trustme

from tests.lab.hosts.layout import CERTIFICATES, Node, nodes

_PRIVATE_MODE = 0o600


def create() -> None:
    """Create the certificates of all hosts and of a client, unless they exist."""
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
    """Return the directory of a host's certificate."""
    return CERTIFICATES / node.name


def client() -> Path:
    """Return the DOCKER_CERT_PATH of a client that the hosts accept."""
    return CERTIFICATES / "client"


def untrusted_bundle(directory: Path) -> Path:
    """Write a valid bundle of an untrusted authority."""
    authority = trustme.CA(organization_name="untrusted")
    _write(authority, authority.issue_cert("untrusted"), directory)
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

"""A TLS server that demands client certificates, as a remote engine does."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from swarm_runner.errors import UnreachableError
from swarm_runner.swarm.client import DockerSwarm

YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
AUTHORITY, STRANGER = trustme.CA(), trustme.CA()


def bundle(
    directory: Path,
    trusted: trustme.CA = AUTHORITY,
    signer: trustme.CA = AUTHORITY,
    **options: object,
) -> Path:
    directory.mkdir()
    mine = signer.issue_cert(common_name="client", **options)  # type: ignore[arg-type]
    trusted.cert_pem.write_to_path(directory / "ca.pem")
    mine.private_key_pem.write_to_path(directory / "key.pem")
    (directory / "cert.pem").write_bytes(mine.cert_chain_pems[0].bytes())
    return directory


@contextlib.contextmanager
def tls_server(certificate: trustme.LeafCert | None) -> Iterator[int]:
    """A port that does the handshake and says good-bye; without a certificate, in plain HTTP."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # With 1.3 a client may be sent away before it has read why; a real engine does so at times.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            with raw, contextlib.suppress(OSError):
                if certificate is None:
                    raw.recv(1000)
                    raw.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                    continue
                with context.wrap_socket(raw, server_side=True) as wrapped:
                    wrapped.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    # requests would trust these in place of ca.pem.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    monkeypatch.setenv("CURL_CA_BUNDLE", "/nowhere")
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")


def advice_for(monkeypatch: pytest.MonkeyPatch, port: int, certificates: Path) -> str:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
    with pytest.raises(UnreachableError) as caught:
        DockerSwarm().docker_engine()
    return str(caught.value)


def test_a_certificate_of_another_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(AUTHORITY.issue_cert("127.0.0.1")) as port:
        said = advice_for(monkeypatch, port, bundle(tmp_path / "own", signer=STRANGER))
    assert "does not take your certificate, cert.pem in DOCKER_CERT_PATH" in said


def test_an_expired_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(AUTHORITY.issue_cert("127.0.0.1")) as port:
        said = advice_for(monkeypatch, port, bundle(tmp_path / "old", not_after=YESTERDAY))
    assert "Your certificate, cert.pem in DOCKER_CERT_PATH, has expired" in said


def test_an_engine_of_another_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(STRANGER.issue_cert("127.0.0.1")) as port:
        said = advice_for(monkeypatch, port, bundle(tmp_path / "own"))
    assert "ca.pem in DOCKER_CERT_PATH is not the authority" in said


def test_an_engine_whose_certificate_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(AUTHORITY.issue_cert("127.0.0.1", not_after=YESTERDAY)) as port:
        said = advice_for(monkeypatch, port, bundle(tmp_path / "own"))
    assert "The engine's certificate has expired" in said


def test_an_engine_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(AUTHORITY.issue_cert("127.0.0.2")) as port:
        said = advice_for(monkeypatch, port, bundle(tmp_path / "own"))
    assert "for another name: DOCKER_HOST" in said


def test_a_port_of_plain_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(None) as port:
        said = advice_for(monkeypatch, port, bundle(tmp_path / "own"))
    assert "No TLS is spoken there" in said


def test_certificates_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "With DOCKER_TLS_VERIFY there must be ca.pem, cert.pem and key.pem" in advice_for(
        monkeypatch, 1, tmp_path / "nowhere"
    )

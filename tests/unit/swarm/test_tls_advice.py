"""Advice for TLS errors, against a server that requires client certificates as an engine does."""

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
CA, OTHER_CA = trustme.CA(), trustme.CA()


def bundle(
    directory: Path,
    trusted: trustme.CA = CA,
    signer: trustme.CA = CA,
    **options: object,
) -> Path:
    directory.mkdir()
    certificate = signer.issue_cert(common_name="client", **options)  # type: ignore[arg-type]
    trusted.cert_pem.write_to_path(directory / "ca.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    (directory / "cert.pem").write_bytes(certificate.cert_chain_pems[0].bytes())
    return directory


@contextlib.contextmanager
def tls_server(certificate: trustme.LeafCert | None) -> Iterator[int]:
    """Listen on a port. Complete the TLS handshake; without `certificate`, answer in plain HTTP."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # With TLS 1.3 the server may close the connection before the client reads its alert.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(context)
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
    # requests prefers these to ca.pem.
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


def test_client_certificate_of_another_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(CA.issue_cert("127.0.0.1")) as port:
        message = advice_for(monkeypatch, port, bundle(tmp_path / "own", signer=OTHER_CA))
    assert "rejected the client certificate, cert.pem in DOCKER_CERT_PATH" in message


def test_expired_client_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(CA.issue_cert("127.0.0.1")) as port:
        message = advice_for(monkeypatch, port, bundle(tmp_path / "old", not_after=YESTERDAY))
    assert "The client certificate, cert.pem in DOCKER_CERT_PATH, has expired" in message


def test_engine_certificate_of_another_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(OTHER_CA.issue_cert("127.0.0.1")) as port:
        message = advice_for(monkeypatch, port, bundle(tmp_path / "own"))
    assert "was not issued by the CA in ca.pem" in message


def test_expired_engine_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(CA.issue_cert("127.0.0.1", not_after=YESTERDAY)) as port:
        message = advice_for(monkeypatch, port, bundle(tmp_path / "own"))
    assert "The engine's certificate has expired" in message


def test_engine_certificate_for_another_host_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(CA.issue_cert("127.0.0.2")) as port:
        message = advice_for(monkeypatch, port, bundle(tmp_path / "own"))
    assert "for another host name: set DOCKER_HOST" in message


def test_plain_http_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(None) as port:
        message = advice_for(monkeypatch, port, bundle(tmp_path / "own"))
    assert "The port does not use TLS" in message


def test_missing_certificate_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = advice_for(monkeypatch, 1, tmp_path / "nowhere")
    assert "DOCKER_TLS_VERIFY requires ca.pem, cert.pem and key.pem" in message

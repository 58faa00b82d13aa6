"""Advice on which setting to correct when the connection to the Docker engine fails."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

# OpenSSL's reason codes, grouped by cause.
_PLAINTEXT_REASONS = {
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
}
_CERTIFICATE_REQUIRED_REASONS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
}
_EXPIRED_REASONS = {"SSLV3_ALERT_CERTIFICATE_EXPIRED"}
_UNTRUSTED_REASONS = {
    "TLSV1_ALERT_UNKNOWN_CA",
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
}
# OpenSSL's X509_V_ERR_* codes.
_CERT_HAS_EXPIRED, _HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH = 10, 62, 64
_CLIENT_BUNDLE = "ca.pem, cert.pem and key.pem in the directory DOCKER_CERT_PATH"


def connection_advice(error: BaseException) -> str:
    """Return a sentence that names the setting to correct after a failed connection."""
    causes = list(_error_chain(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _verification_advice(cause.verify_code)
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and cause.reason is not None:
            return _alert_advice(cause.reason)
    message = " ".join(map(str, causes))
    closed = (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError)
    if "HTTPSConnection" in message and any(isinstance(cause, closed) for cause in causes):
        # With TLS 1.3 the server may close the connection before the client reads its alert.
        return _alert_advice("SSLV3_ALERT_BAD_CERTIFICATE")
    if "HTTP request to an HTTPS server" in message:
        return (
            "The engine requires TLS: set DOCKER_TLS_VERIFY=1, and set DOCKER_CERT_PATH to the "
            "directory that contains ca.pem, cert.pem and key.pem"
        )
    if any(type(cause).__name__ == "TLSParameterError" for cause in causes) or (
        os.environ.get("DOCKER_TLS_VERIFY")
        and any(isinstance(cause, FileNotFoundError) for cause in causes)
    ):
        return f"DOCKER_TLS_VERIFY requires {_CLIENT_BUNDLE} (~/.docker by default)"
    if "paramiko" in message:
        return "For ssh:// docker-py needs that package: run `pip install paramiko`"
    if any(type(cause).__module__.startswith("paramiko") for cause in causes):
        return (
            "Check that `ssh` to that host asks nothing: its key must be in ~/.ssh/known_hosts, "
            "and yours in ~/.ssh, in an agent, or named by IdentityFile in ~/.ssh/config"
        )
    return "Check that it is running, and that DOCKER_HOST or the docker context names it"


def _verification_advice(code: int) -> str:
    """Return advice for an engine certificate that the client rejected."""
    if code == _CERT_HAS_EXPIRED:
        return "The engine's certificate has expired: renew it on the engine's host"
    if code in (_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH):
        return (
            "The engine's certificate is for another host name: set DOCKER_HOST to a name that "
            "the certificate contains"
        )
    return (
        "The engine's certificate was not issued by the CA in ca.pem (in DOCKER_CERT_PATH): set "
        "DOCKER_CERT_PATH to the directory with this engine's certificates"
    )


def _alert_advice(reason: str) -> str:
    """Return advice for a handshake that the server ended."""
    if reason in _PLAINTEXT_REASONS:
        return (
            "The port does not use TLS: set DOCKER_HOST to the engine's TLS port (usually 2376), "
            "or unset DOCKER_TLS_VERIFY"
        )
    if reason in _EXPIRED_REASONS:
        return "The client certificate, cert.pem in DOCKER_CERT_PATH, has expired: renew it"
    if reason in _CERTIFICATE_REQUIRED_REASONS:
        return f"The engine requires a client certificate: put {_CLIENT_BUNDLE}"
    if reason in _UNTRUSTED_REASONS:
        return (
            "The engine rejected the client certificate, cert.pem in DOCKER_CERT_PATH: it has "
            "expired, or was issued by a CA that the engine does not trust"
        )
    return f"The TLS handshake failed ({reason}): check {_CLIENT_BUNDLE}"


def _error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes: exceptions in `__cause__`, `args` or `reason` too."""
    visited: set[int] = set()
    queue = [error]
    while queue:
        cause = queue.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in visited:
            continue
        visited.add(id(cause))
        yield cause
        queue += [cause.__cause__, cause.__context__, *cause.args, getattr(cause, "reason", None)]

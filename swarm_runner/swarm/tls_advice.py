"""What to set when the engine is not reached, told by the errors of certificates and addresses."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

# The reasons that OpenSSL gives, and what they mean to one who set three variables.
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
# OpenSSL's X509_V_ERR_*
_CERT_HAS_EXPIRED, _HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH = 10, 62, 64
_CLIENT_BUNDLE = "ca.pem, cert.pem and key.pem in the directory that DOCKER_CERT_PATH names"


def connection_advice(error: BaseException) -> str:
    """A sentence on what to set, for an error on the way to the engine."""
    chain = list(_error_chain(error))
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return _verification_advice(one.verify_code)
    for one in chain:
        if isinstance(one, ssl.SSLError) and one.reason is not None:
            return _alert_advice(one.reason)
    said = " ".join(map(str, chain))
    closed = (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError)
    if "HTTPSConnection" in said and any(isinstance(one, closed) for one in chain):
        # With TLS 1.3 a client may be sent away before it has heard why.
        return _alert_advice("SSLV3_ALERT_BAD_CERTIFICATE")
    if "HTTP request to an HTTPS server" in said:
        return (
            "It wants TLS: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory of "
            "your ca.pem, cert.pem and key.pem"
        )
    if any(type(one).__name__ == "TLSParameterError" for one in chain) or (
        os.environ.get("DOCKER_TLS_VERIFY") and any(isinstance(o, FileNotFoundError) for o in chain)
    ):
        return f"With DOCKER_TLS_VERIFY there must be {_CLIENT_BUNDLE} (~/.docker if unset)"
    return "Is it running, and does DOCKER_HOST (or the docker context) name it?"


def _verification_advice(code: int) -> str:
    """The engine's certificate does not satisfy us."""
    if code == _CERT_HAS_EXPIRED:
        return "The engine's certificate has expired: renew it on the engine"
    if code in (_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH):
        return (
            "The engine's certificate is for another name: DOCKER_HOST must name it as its "
            "certificate does"
        )
    return (
        "ca.pem in DOCKER_CERT_PATH is not the authority of the engine's certificate: "
        "DOCKER_CERT_PATH must be the bundle of this very engine"
    )


def _alert_advice(reason: str) -> str:
    """The engine, or who answers in its place, does not go on."""
    if reason in _PLAINTEXT_REASONS:
        return (
            "No TLS is spoken there: DOCKER_HOST names a port of plain HTTP (TLS is on 2376 as a "
            "rule), or DOCKER_TLS_VERIFY is to be unset"
        )
    if reason in _EXPIRED_REASONS:
        return "Your certificate, cert.pem in DOCKER_CERT_PATH, has expired: get a new one"
    if reason in _CERTIFICATE_REQUIRED_REASONS:
        return f"It demands a certificate of yours: there must be {_CLIENT_BUNDLE}"
    if reason in _UNTRUSTED_REASONS:
        return (
            "It does not take your certificate, cert.pem in DOCKER_CERT_PATH: it has expired, or "
            "is not signed by the authority that the engine trusts"
        )
    return f"TLS fails ({reason}): there must be {_CLIENT_BUNDLE}"


def _error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was made of: libraries wrap by cause, by argument and by `reason`."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, *one.args, getattr(one, "reason", None)]

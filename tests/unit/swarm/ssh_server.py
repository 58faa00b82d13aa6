"""An ssh server in this process, which leads docker-py to the socket of an engine."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

# What docker-py runs for each connection to the engine.
_COMMAND = b"docker system dial-stdio"
_BYTES = 65536


class _Session(paramiko.ServerInterface):
    """Admits the owner of a key, and runs docker-py's command alone."""

    def __init__(self, user_key: paramiko.PKey, engine: Path) -> None:
        self._user_key = user_key
        self._engine = engine

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        del username
        is_known = key == self._user_key
        return AUTH_SUCCESSFUL if is_known else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind, chanid
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if command != _COMMAND:
            return False
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(str(self._engine))

        def respond() -> None:
            _copy(engine.recv, channel.sendall)
            channel.close()

        def request() -> None:
            _copy(channel.recv, engine.sendall)
            engine.close()

        for relay in (respond, request):
            threading.Thread(target=relay, daemon=True).start()
        return True


def _copy(receive: Callable[[int], bytes], send: Callable[[bytes], object]) -> None:
    """Copy until one side is closed."""
    with contextlib.suppress(OSError):
        while data := receive(_BYTES):
            send(data)


@contextlib.contextmanager
def ssh_server(engine: Path, home: Path) -> Iterator[str]:
    """Yield the address of a server for the engine, which the user with this home may use."""
    host_key, user_key = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
    transports: list[paramiko.Transport] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        directory = home / ".ssh"
        directory.mkdir()
        user_key.write_private_key_file(str(directory / "id_ecdsa"))
        entry = f"[127.0.0.1]:{port} {host_key.get_name()} {host_key.get_base64()}\n"
        (directory / "known_hosts").write_text(entry)

        def serve() -> None:
            with contextlib.suppress(OSError):  # the end: nobody listens
                while True:
                    transport = paramiko.Transport(listening.accept()[0])
                    transports.append(transport)
                    transport.add_server_key(host_key)
                    transport.start_server(server=_Session(user_key, engine))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"ssh://user@127.0.0.1:{port}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    for transport in transports:
        transport.close()

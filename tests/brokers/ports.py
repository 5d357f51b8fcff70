"""Loopback ports that stay free for one server over all its restarts."""

import contextlib
import random
import socket
import sys

HOST = "127.0.0.1"

# Below the range from which Linux takes the ports of outgoing connections, so that no client
# connection sits on a server's port while that server is down.
_FIRST, _LAST = 15_000, 32_000


class Port:
    """A reserved port: nobody else gets it until `release()`.

    The reservation is a bound socket that never listens. Linux lets a server bind the same port
    beside it, because both set SO_REUSEADDR, and refuses it to whoever asks without that option,
    as `Port` itself does when it looks for a free one. Elsewhere the port is only found free.
    """

    def __init__(self, number: int | None = None) -> None:
        self._socket: socket.socket | None = None
        self.number = self._reserve(number)

    def release(self) -> None:
        """Give the port back; safe to call twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _reserve(self, number: int | None) -> int:
        if number is not None:
            if answers(HOST, number):
                raise OSError(f"port {number} on {HOST} is in use")
            self._hold(number)
            return number
        for _ in range(1000):
            candidate = random.randrange(_FIRST, _LAST)
            with contextlib.suppress(OSError):
                with socket.socket() as probe:
                    probe.bind((HOST, candidate))
                self._hold(candidate)
                return candidate
        raise OSError(f"no free port on {HOST} between {_FIRST} and {_LAST}")

    def _hold(self, number: int) -> None:
        if sys.platform == "linux":
            held = socket.socket()
            try:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held.bind((HOST, number))
            except OSError:
                held.close()
                raise
            self._socket = held


def answers(host: str, port: int, timeout: float = 1.0) -> bool:
    """Whether something accepts connections at this address."""
    try:
        with socket.create_connection((host, port), timeout):
            return True
    except OSError:
        return False

"""A proxy in front of a server's port, by which a test breaks the network between it and a client.

A client of Kafka follows the addresses that the brokers advertise: start the proxy first and the
cluster with `advertised_ports=[proxy.port]`, then set `proxy.target = cluster.listeners[0]`.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, Self

from .ports import HOST, Port

_CHUNK = 64 * 1024
# SO_LINGER with a time of 0: closing sends a reset, as a failing network does.
_RESET = struct.pack("ii", 1, 0)


class TcpProxy:
    """Forwards a loopback port to `target` (`host:port`), as long as the test lets it.

    Belongs to the event loop that runs `start()`. Without a target it resets every connection.
    """

    def __init__(self, target: str | None = None) -> None:
        self.target = target
        self._port = Port()
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def port(self) -> int:
        """The port for clients, the same for the life of the proxy."""
        return self._port.number

    @property
    def address(self) -> str:
        """The address for clients, `host:port`."""
        return f"{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    async def start(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def stop(self) -> None:
        """Reset what is open, accept no more, and give the port back; safe to call twice."""
        await self.cut()
        self._port.release()

    async def cut(self) -> None:
        """Reset all connections and refuse new ones, until `heal()`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        ended = list(self._connections)
        for connection in ended:
            connection.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def freeze(self) -> None:
        """Forward nothing in either direction, until `heal()`; connections stay open.

        New connections are accepted and get no answer.
        """
        self._flowing.clear()

    async def heal(self) -> None:
        """Forward again, what was held back included, and accept connections."""
        self._flowing.set()
        if self._server is None:
            await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._forward(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        # Here rather than in the task, because one that is cancelled before it ran runs no line.
        _reset(self._connections.pop(task))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await self._flowing.wait()
            if self.target is None:
                return
            host, _, port = self.target.rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            try:
                async with asyncio.TaskGroup() as directions:
                    directions.create_task(self._pump(reader, far_writer))
                    directions.create_task(self._pump(far_reader, writer))
                # Both sides have said goodbye: let what is still on its way arrive.
                await _close(far_writer)
                await _close(writer)
            except* OSError:
                pass
            finally:
                _reset(far_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        await self._flowing.wait()
        if writer.can_write_eof():
            writer.write_eof()


class ThreadedProxy:
    """A proxy in a thread, for tests whose event loops it must outlive, or leave alone."""

    def __init__(self, target: str) -> None:
        self._proxy = TcpProxy(target)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @property
    def address(self) -> str:
        """The address for clients, `host:port`."""
        return self._proxy.address

    async def cut(self) -> None:
        """Reset all connections and refuse new ones, until `heal()`."""
        await asyncio.wrap_future(self._begin(self._proxy.cut()))

    async def heal(self) -> None:
        """Forward again."""
        await asyncio.wrap_future(self._begin(self._proxy.heal()))

    def __enter__(self) -> Self:
        self._thread.start()
        self._begin(self._proxy.start()).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._begin(self._proxy.stop()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _begin(self, step: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(step, self._loop)


class ProxyFactory(Protocol):
    """Starts a proxy, which ends with the test that asked for it."""

    async def __call__(self, target: str | None = None) -> TcpProxy:
        """Start a proxy in front of `target`, `host:port`."""


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()

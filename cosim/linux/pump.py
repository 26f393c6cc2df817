"""Lets simulated time pass for programs outside of the simulation, and only then."""

import selectors
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from cosim.port import Port
from cosim.vfio_user.device import PciFunction
from cosim.vfio_user.protocol import Message
from cosim.vfio_user.server import Connection, listen

__all__ = ["Pump"]


class _Client:
    """A socket for one client at a time, and the commands that it has sent."""

    def __init__(self, pump: "Pump", path: Path, function: PciFunction) -> None:
        self._pump, self._function = pump, function
        self._listener = listen(path)
        self._connection: Connection | None = None
        self._commands: deque[Message] = deque()
        self._wake = pump.port.event()
        pump.watch(self._listener.fileno(), self._accept)
        pump.port.spawn(self._serve(), "vfio-user")

    def _accept(self) -> None:
        link, _ = self._listener.accept()
        if self._connection is not None:
            link.close()  # one client at a time
            return
        self._connection = Connection(link, self._function)
        self._pump.clients += 1
        self._pump.watch(self._connection.fileno(), self._receive)

    def _receive(self) -> None:
        assert self._connection is not None
        found = self._connection.receive()
        self._commands.extend(found)
        self._pump.pending += len(found)
        if not self._connection.open:
            self._pump.forget(self._connection.fileno())
            self._pump.pending += 1  # the end of it
        self._wake.set()

    async def _serve(self) -> None:
        """Carry commands out in their order, then the connection's end."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._commands and self._connection is not None:
                await self._connection.answer(self._commands.popleft())
                self._pump.pending -= 1
                self._pump.commands += 1
            if self._connection is not None and not self._connection.open:
                connection, self._connection = self._connection, None
                await connection.close()
                self._pump.pending -= 1
                self._pump.clients -= 1


class Pump:
    """Serves clients, and watches other descriptors, while simulated time passes.

    Time passes while a command is being carried out, and until nothing has happened on the
    hardware's ports for ``quiet`` cycles.  Then the process sleeps until a descriptor wakes it.

    Parameters
    ----------
    port : Port
    activity : callable
        Returns a number that changes when something happens on the hardware's ports.
    step : int
        Cycles between two looks at descriptors.
    quiet : int
        Cycles without activity after which nothing more will happen by itself.
    """

    def __init__(
        self, port: Port, activity: Callable[[], int], *, step: int = 100, quiet: int = 4000
    ) -> None:
        self.port, self._activity = port, activity
        self._step, self._quiet = step, quiet
        self._selector = selectors.DefaultSelector()
        #: Commands that wait or are being carried out, and tasks of others that let time pass.
        self.pending = 0
        #: Clients that are connected, or whose end is being seen to.
        self.clients = 0
        #: Commands carried out.
        self.commands = 0
        #: Seconds in which simulated time stood still.
        self.slept = 0.0
        #: Called when nothing has come for as long as the process sleeps at most.
        self.on_silence: Callable[[], None] = lambda: None

    def serve(self, path: Path, function: PciFunction) -> None:
        """Offer a function to the clients of a Unix socket, one at a time."""
        _Client(self, path, function)

    def watch(self, fd: int, readable: Callable[[], None]) -> None:
        """Call a function when a descriptor is readable."""
        self._selector.register(fd, selectors.EVENT_READ, readable)

    def forget(self, fd: int) -> None:
        """Watch a descriptor no more."""
        self._selector.unregister(fd)

    def _look(self, seconds: float) -> bool:
        """Serve what can be read within a time; return whether there was anything."""
        found = self._selector.select(seconds)
        for key, _ in found:
            key.data()
        return bool(found)

    async def run(self, finished: Callable[[], bool], *, sleep_s: float = 0.5) -> None:
        """Return when ``finished``, which is asked often and at least every ``sleep_s``."""
        last, since = self._activity(), self.port.now()
        while not finished():
            now = self._activity()
            if now != last or self.pending:
                last, since = now, self.port.now()
            idle = self.port.now() - since > self._quiet
            began = time.monotonic() if idle else 0.0
            served = self._look(sleep_s if idle else 0)
            if idle:
                self.slept += time.monotonic() - began
                if not served:
                    self.on_silence()
            await self.port.sleep(self._step)

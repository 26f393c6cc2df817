"""A guest whose memory is full of something, with frames to send out of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

from cosim.guest.balloon import BalloonDriver
from cosim.guest.memory import Allocator
from cosim.guest.virtio_net import VirtioNet
from cosim.guest.virtqueue import Piece
from cosim.hypervisor.paging.balloon import Balloon
from cosim.hypervisor.paging.pager import Pager
from cosim.hypervisor.vm import RAM_GPA, Vm
from cosim.scenarios.exchange import Exchange
from cosim.scenarios.traffic import OUTSIDE, Frame, guest_mac
from models.pagetable import KIB_4

__all__ = ["PAGES_MIN", "Layout", "OvercommitGuest", "corpus"]

#: Pages for rings, buffers and the heads of frames.
_DRIVER = 20
PAGES_MIN = 48
_HEAD_BYTES, _HEAD_SLOT = 22, 32
_FRAME_BYTES = 1514
#: EtherType for local experiments (IEEE 802).
_TYPE = b"\x88\xb5"


def _text(rng: Random) -> bytes:
    """A page that compresses to about a half."""
    words = [rng.randbytes(3).hex().encode() for _ in range(40)]
    return b" ".join(rng.choice(words) for _ in range(KIB_4 // 6))[:KIB_4]


def corpus(pages: int, seed: int) -> list[bytes]:
    """Return what every guest has alike: files and programs."""
    rng = Random(f"corpus {seed}")
    return [_text(rng) for _ in range(Layout.of(pages).corpus)]


@dataclass(frozen=True)
class Layout:
    """Pages of a guest, in this order behind those of its driver.

    ``corpus`` is alike in all guests; ``text`` and ``noise`` are files of its own, the one of which
    compresses and the other does not; ``heap`` is read and written by its processor, ``free`` holds
    what it once did and is of no use any more.
    """

    corpus: int
    text: int
    noise: int
    heap: int
    free: int

    @classmethod
    def of(cls, pages: int) -> "Layout":
        """Divide a guest's pages."""
        rest = pages - _DRIVER
        parts = (rest * 3 // 10, rest // 5, rest // 10, rest * 3 // 20)
        return cls(*parts, rest - sum(parts))

    @property
    def files(self) -> int:
        """Pages that frames are sent from."""
        return self.corpus + self.text + self.noise


class OvercommitGuest:
    """One guest.

    Parameters
    ----------
    pager : Pager
    exchange : Exchange
    host : int
        Number of its function.
    hosts : int
        Guests.
    pages, frames : int
        Of its memory; to send.
    seed : int
    common : list of bytes
        What :func:`corpus` returns.
    """

    def __init__(
        self,
        pager: Pager,
        exchange: Exchange,
        host: int,
        *,
        hosts: int,
        pages: int,
        frames: int,
        seed: int,
        common: list[bytes],
    ) -> None:
        self.pager, self.exchange, self.host, self.hosts = pager, exchange, host, hosts
        self.layout, self.bytes = Layout.of(pages), pages * KIB_4
        self._count, self._rng = frames, Random(f"{seed}/{host}")
        self._common = common
        self.vm: Vm
        self.driver: VirtioNet
        self.balloon: Balloon
        #: What each page behind the driver's holds.
        self.contents: list[bytes] = []
        self._base = RAM_GPA + _DRIVER * KIB_4
        self.received_bytes = 0

    def _gpa(self, index: int) -> int:
        return self._base + index * KIB_4

    async def boot(self) -> None:
        """Fill all memory, bring the driver up, prepare frames."""
        pager, layout, rng = self.pager, self.layout, self._rng
        self.vm = vm = pager.new_vm(f"guest{self.host}", self.bytes)
        own = layout.text + layout.noise + layout.heap + layout.free
        noise = range(layout.text, layout.text + layout.noise)
        private = [rng.randbytes(KIB_4) if at in noise else _text(rng) for at in range(own)]
        self.contents = [*self._common, *private]
        for gpa in range(RAM_GPA, self._base, KIB_4):
            await self._store(gpa, bytes(KIB_4))
        for index, content in enumerate(self.contents):
            await self._store(self._gpa(index), content)
        hypervisor = pager.hypervisor
        bus = await hypervisor.assign(vm, self.host, guest_mac(self.host), count=False)
        allocator = Allocator(RAM_GPA, _DRIVER * KIB_4)
        self._array = allocator.allocate(KIB_4, align=KIB_4)
        self._heads = allocator.allocate(_HEAD_SLOT * self._count)
        self.frames = list(self._plan())
        self.driver = VirtioNet(
            pager.port,
            bus,
            vm.memory,
            allocator,
            rng,
            queue_size=64,
            fragments=2,
            buffers=16,
            frame_bytes=_FRAME_BYTES,
            pay=vm.pay,
            prepare=partial(pager.prepare, vm.pages),
        )
        self.driver.on_receive = self._received
        await self.driver.start()
        first = self.layout.files + self.layout.heap
        free = [self._gpa(first + index) for index in range(self.layout.free)]
        self.balloon = Balloon(pager, vm.pages)
        self._lender = BalloonDriver(pager.port, self.balloon, vm.memory, self._array, free)

    async def _store(self, gpa: int, data: bytes) -> None:
        await self.pager.prepare(self.vm.pages, [(gpa, len(data))])
        self.vm.memory.write(gpa, data)
        await self.vm.pay()

    def _skewed(self, count: int) -> int:
        """One of so many: half of all draws are of the first quarter."""
        return int(count * self._rng.uniform(0, 1) ** 2)

    def _plan(self) -> Iterator[tuple[Frame, int, int]]:
        """Frames with the GPA and bytes of their payload."""
        order = self._rng.sample(range(self.layout.files), self.layout.files)
        others = [host for host in range(1, 1 + self.hosts) if host != self.host]
        for number in range(self._count):
            target = OUTSIDE if number % 3 == 2 or not others else self._rng.choice(others)
            page = order[self._skewed(len(order))]
            size = self._rng.choice((64, 200, 576, _FRAME_BYTES - _HEAD_BYTES))
            at = self._rng.randrange(KIB_4 - size + 1)
            head = guest_mac(target) + guest_mac(self.host) + _TYPE + number.to_bytes(8, "big")
            content = head + self.contents[page][at : at + size]
            yield Frame(self.host, (target,), content), self._gpa(page) + at, size

    def _received(self, content: bytes) -> None:
        self.received_bytes += len(content)
        self.exchange.arrive(self.host, content)

    async def send(self) -> None:
        """Send all frames, and use the heap meanwhile."""
        for number, (frame, gpa, size) in enumerate(self.frames):
            await self.exchange.depart(frame)
            place = self._heads + _HEAD_SLOT * number
            await self._store(place, frame.content[:_HEAD_BYTES])
            await self.driver.send_pieces([Piece(place, _HEAD_BYTES), Piece(gpa, size)])
            await self._use_heap()

    async def _use_heap(self) -> None:
        """Read a page, and change a word in it now and then."""
        index = self.layout.files + self._skewed(self.layout.heap)
        if self._rng.randrange(4):
            self.vm.memory.read(self._gpa(index), 64)
            await self.vm.pay()
            return
        at, word = self._rng.randrange(0, KIB_4, 8), self._rng.randbytes(8)
        old = self.contents[index]
        self.contents[index] = old[:at] + word + old[at + 8 :]
        await self._store(self._gpa(index) + at, word)

    def verify(self) -> int:
        """Read all memory that is not lent, and return how many pages are not what they were.

        In no time: what is not resident is read where it is stored.
        """
        lent = self.balloon.actual
        kept = self.layout.files + self.layout.heap
        wrong = 0
        for index, content in enumerate(self.contents):
            if not kept <= index < kept + lent:  # the first free pages are lent first
                wrong += self.vm.memory.read(self._gpa(index), KIB_4) != content
        return wrong

"""Control queues in memory that a pager has: software serves them as a processor would."""

from cosim.guest.virtqueue import Piece
from cosim.hypervisor.paging.mechanisms import Mechanisms
from models.pagetable import KIB_4
from models.spec.virtio_net import ControlAck, ControlClass
from tests.cosim.paging.test_pager import equal_guests, unharmed
from tests.cosim.platform import COMPLETE, run


def test_with_no_frame_left_commands_are_answered_all_the_same():
    async def scenario(platform):
        guest = await platform.guest(1)
        await platform.machine.sleep(30_000)
        pager = platform.pager
        await pager.reclaim.evict(64)
        pager.take_frame = lambda: None
        assert await guest.driver.control.command(ControlClass.RX, 1, b"\1") == ControlAck.OK
        assert pager.counts.emulated > 4

    run(scenario, nic=COMPLETE, frames=64)


def test_an_answer_to_a_shared_page_is_not_seen_by_who_shares_it():
    async def scenario(platform):
        guests, places, contents = await equal_guests(platform, 2)
        queue = guests[0].driver.control._queue
        command = queue.store(bytes((ControlClass.RX, 1, 1)))
        queue.add([Piece(command, 3)], [Piece(places[0], 1)], "it")
        guests[0].driver.transport.notify(queue)
        await platform.machine.sleep(60_000)
        assert queue.take() == ("it", 1)
        answered = bytes((ControlAck.OK,)) + contents[0][1:]
        assert guests[0].vm.memory.read(places[0], KIB_4) == answered
        assert guests[1].vm.memory.read(places[1], KIB_4) == contents[0]
        unharmed(platform)

    mechanisms = Mechanisms(sharing=True)
    run(scenario, nic=COMPLETE, frames=400, mechanisms=mechanisms, scan_cycles=2000)

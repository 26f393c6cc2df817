"""The golden NIC's queues that do not run, stop or come back, by its registers alone."""

import pytest

from cosim.guest.virtqueue import Piece
from models.spec.iommu import PageResponse
from models.spec.nic import MERGED_BUFFERS, Isr, QueueError, Stat
from models.spec.virtio import MSI_NO_VECTOR, DeviceStatus, Feature, common
from tests.models.nic_alone import NicAlone, frame

MERGEABLE = 1 << Feature.NET_MRG_RXBUF
RECEIVE = (0, 2)


def never_enabled(nic):
    nic.start(0)


def reset(nic):
    nic.start(*RECEIVE)
    nic.buffers(2, *[2048] * 8)
    nic.reset(2)


def stopped(nic):
    """By a frame that is taken: it is among the first that are dropped."""
    nic.start(*RECEIVE)
    nic.buffers(2, 8)
    nic.receive(1, frame(0))
    nic.settle()
    assert nic.error(2) is QueueError.BAD_LENGTH


# Receive queues that do not run ------------------------------------------------------------------


@pytest.mark.parametrize("state", [never_enabled, reset, stopped])
def test_a_queue_that_does_not_run_holds_up_no_other(state):
    nic = NicAlone()
    state(nic)
    nic.buffers(0, *[2048] * 8)
    before = nic.dropped[0]
    many = nic.depth + 3
    nic.receive(1, *[frame(n) for n in range(many)])
    assert nic.dropped == (before + many, 0, before + many)
    nic.receive(0, frame(1), frame(2))
    nic.settle()
    assert nic.used(0) == [72, 72]
    assert nic.dropped == (before + many, 0, before + many)


@pytest.mark.parametrize("ends", ["reset", "stops"])
def test_what_waits_for_a_queue_is_dropped_with_it(ends):
    nic = NicAlone()
    nic.start(*RECEIVE)
    nic.receive(1, *[frame(n) for n in range(4)])
    nic.receive(0, frame(9))
    nic.settle()
    assert nic.dropped == (0, 0, 0)
    if ends == "reset":
        nic.reset(2)
    else:
        nic.buffers(2, 8)
        nic.settle()
    assert nic.dropped == (4, 0, 4)
    nic.reset(2)
    nic.enable(2)
    nic.buffers(2, 2048)
    nic.receive(1, frame(7))
    nic.buffers(0, 2048)
    nic.settle()
    assert nic.used(2) == nic.used(0) == [72]
    assert nic.dropped == (4, 0, 4)


@pytest.mark.parametrize("ends", ["reset", "failure"])
def test_the_frame_that_is_being_delivered_is_counted_too(ends):
    nic = NicAlone()
    nic.start(*RECEIVE)
    nic.absent_buffer(2)
    nic.receive(1, frame(1), frame(2))
    nic.settle()
    assert len(nic.requests) == 1
    if ends == "reset":
        nic.reset(2)
        nic.answer(PageResponse.SUCCESS)
    else:
        nic.answer(PageResponse.FAILURE)
        assert nic.error(2) is QueueError.PAGE_REQUEST_FAILED
    nic.settle()
    assert nic.dropped == (2, 0, 2)
    assert nic.stat(Stat.RX_PACKETS) == 0


def test_what_comes_back_from_the_backup_ring_is_dropped():
    nic = NicAlone()
    nic.backup_rings()
    nic.start(*RECEIVE)
    nic.absent_buffer(2)
    nic.receive(1, frame(1))
    nic.settle()
    nic.receive(1, frame(2), frame(3))
    assert nic.stat(Stat.RX_BACKUP) == 2
    nic.reset(2)
    nic.settle()
    assert nic.dropped == (3, 0, 3)
    nic.receive(1, frame(4))
    nic.settle()
    assert nic.dropped == (4, 0, 4)
    assert nic.stat(Stat.RX_BACKUP) == 2


def test_a_device_reset_drops_and_counts_what_waits():
    nic = NicAlone()
    nic.start(*RECEIVE)
    nic.absent_buffer(2)
    nic.receive(0, frame(1))
    nic.receive(1, frame(2), frame(3))  # one is being delivered
    nic.settle()
    assert len(nic.requests) == 1
    nic.store("device_status", 0)
    assert nic.dropped == (3, 1, 2)
    nic.receive(1, frame(1))  # nobody's
    assert nic.dropped == (3, 1, 2)
    assert nic.stat(Stat.RX_DROPPED_FILTER) == 1


# Buffers that are too short ----------------------------------------------------------------------


def test_a_frame_that_does_not_fit_is_dropped_alone():
    nic = NicAlone()
    nic.start(*RECEIVE)
    nic.buffers(0, 12 + 59, 12, 12 + 60)
    nic.receive(0, frame(1), frame(2), frame(3))
    nic.settle()
    assert nic.used(0) == [0, 0, 72]
    assert nic.dropped == (2, 2, 0)
    assert nic.stat(Stat.RX_DROPPED_BUFFER) == 2
    assert nic.error(0) is QueueError.NONE
    assert (nic.stat(Stat.RX_PACKETS), nic.stat(Stat.RX_BYTES)) == (1, 60)


@pytest.mark.parametrize(
    ("lengths", "bad", "error"),
    [
        ((12, 13), 0, QueueError.BUS),  # too short: it is known when all has been read
        ((12, 13), 1, QueueError.BUS),
        ((1000, 1000), 1, QueueError.NONE),  # too long, with the second
        ((1000, 1000), 0, QueueError.BUS),
        ((1000, 1000, 8), 2, QueueError.NONE),
    ],
)
def test_what_is_sent_is_read_up_to_what_makes_it_too_long(lengths, bad, error):
    nic = NicAlone()
    nic.start(1)
    pieces = [Piece(nic.allocator.allocate(n), n) for n in lengths]
    pieces[bad] = Piece(0x4000_0000, lengths[bad])
    nic.queues[1].add(pieces, (), None)
    nic.ring(1)
    nic.settle()
    assert nic.error(1) is error
    for stat in (Stat.TX_DROPPED, Stat.TX_DROPPED_LENGTH):
        assert nic.stat(stat) == (error is QueueError.NONE)


@pytest.mark.parametrize("features", [0, MERGEABLE])
def test_a_buffer_shorter_than_the_header_stops_the_queue(features):
    nic = NicAlone(features)
    nic.start(*RECEIVE)
    nic.buffers(0, 11)
    nic.receive(0, frame(1))
    nic.settle()
    assert nic.error(0) is QueueError.BAD_LENGTH
    assert nic.used(0) == []
    assert nic.dropped == (1, 1, 0)


def test_mergeable_buffers_that_do_not_suffice_stop_the_queue():
    nic = NicAlone(MERGEABLE)
    nic.start(*RECEIVE)
    assert nic.queues[0].size == MERGED_BUFFERS
    nic.buffers(0, *[12] * MERGED_BUFFERS)
    nic.receive(0, frame(1, 12 * MERGED_BUFFERS - 12), frame(1, 12 * MERGED_BUFFERS - 11))
    nic.settle()
    assert nic.used(0) == [12] * MERGED_BUFFERS
    nic.buffers(0, *[12] * MERGED_BUFFERS)
    nic.settle()
    assert nic.error(0) is QueueError.BAD_LENGTH
    assert nic.dropped == (1, 1, 0)


def test_a_closed_queue_keeps_the_buffers_that_it_had_for_what_is_dropped():
    """And a frame that comes when it is open again takes no more of them than it needs."""
    nic = NicAlone(MERGEABLE)
    nic.start(*RECEIVE)
    nic.buffers(2, 100, 100, 100)
    nic.receive(1, frame(1, 400))
    nic.settle()
    assert nic.used(2) == []
    nic.close(1)
    assert nic.dropped == (1, 0, 1)
    nic.receive(1, frame(2))
    assert nic.dropped == (2, 0, 2)
    assert nic.stat(Stat.RX_DROPPED_QUEUE) == 2
    nic.close()
    nic.receive(1, frame(3), frame(4, 150))
    nic.settle()
    assert nic.used(2) == [72, 100, 62]
    assert nic.error(2) is QueueError.NONE


# What the driver is told -------------------------------------------------------------------------


def test_vectors_may_change_at_any_time():
    nic = NicAlone()
    nic.start(*RECEIVE)
    nic.buffers(0, *[2048] * 4)
    nic.store("queue_select", 0)
    for vector, read, came in ((3, 3, 3), (1, 1, 1), (MSI_NO_VECTOR, MSI_NO_VECTOR, None)):
        nic.store("queue_msix_vector", vector)
        assert nic.load("queue_msix_vector") == read
        nic.receive(0, frame(1))
        nic.settle()
        assert [v for v in range(4) if nic.messages(v)] == ([] if came is None else [came])
    nic.store("queue_msix_vector", 0x200)  # there is none
    assert nic.load("queue_msix_vector") == MSI_NO_VECTOR
    nic.store("queue_msix_vector", 2)
    nic.reset(0)
    assert nic.load("queue_msix_vector") == MSI_NO_VECTOR


@pytest.mark.parametrize("vector", [2, MSI_NO_VECTOR])
def test_a_queue_that_stops_says_that_the_device_needs_a_reset(vector):
    nic = NicAlone()
    nic.store("config_msix_vector", vector)
    nic.start(*RECEIVE)
    generation = nic.load("config_generation")
    for number in RECEIVE:
        assert nic.isr() == 0
        nic.buffers(number, 11)
        nic.receive(number // 2, frame(1))
        nic.settle()
        assert nic.load("device_status") & DeviceStatus.DEVICE_NEEDS_RESET
        assert nic.managed("status") & DeviceStatus.DEVICE_NEEDS_RESET
        assert nic.isr() == Isr.CONFIG
        assert nic.messages(2) == (vector == 2)
    assert nic.load("config_generation") == generation
    nic.reset(0)
    nic.enable(0)
    assert nic.load("device_status") & DeviceStatus.DEVICE_NEEDS_RESET
    nic.store("device_status", 0)
    assert nic.load("device_status") == 0


# What outlives a reset ---------------------------------------------------------------------------


def test_the_reason_stays_until_the_queue_runs_again():
    nic = NicAlone()
    nic.start(*RECEIVE)
    nic.buffers(2, 11)
    nic.receive(1, frame(1))
    nic.settle()
    for again in (lambda: nic.reset(2), lambda: nic.store("device_status", 0)):
        again()
        assert nic.error(2) is QueueError.BAD_LENGTH
    nic.start(0)
    assert nic.error(2) is QueueError.BAD_LENGTH
    nic.enable(2)
    assert nic.error(2) is QueueError.NONE
    nic.buffers(2, 11)
    nic.receive(1, frame(1))
    nic.settle()
    nic.store("device_status", 0)
    nic.negotiate()
    nic.enable(2)
    assert nic.error(2) is QueueError.BAD_LENGTH
    nic.start(2)
    assert nic.error(2) is QueueError.NONE
    nic.buffers(2, 2048)
    nic.receive(1, frame(1))
    nic.settle()
    assert nic.used(2) == [72]


def test_the_generation_outlives_a_device_reset():
    nic = NicAlone()
    nic.start(0)
    before = nic.load("config_generation")
    nic.manage("mac_low", 0x1234)
    nic.store("device_status", 0)
    assert nic.load("config_generation") == before + 1
    nic.manage("mac_low", 0x5678)
    nic.manage("mac_low", 0x9ABC)  # of what nobody has read
    assert nic.load("config_generation") == before + 2


def test_a_reset_is_of_what_is_stored_beside_it():
    nic = NicAlone()
    nic.start(0)
    nic.nic.write_register(common("device_status").offset, 4, 1 << 16)
    assert (nic.load("device_status"), nic.load("queue_select")) == (0, 0)


def test_a_queue_that_is_not_enabled_is_reset_too():
    """Whatever the driver has set up (virtio 1.3, 4.1.4.3.1)."""
    nic = NicAlone()
    nic.negotiate()
    nic.store("queue_select", 1)
    chosen = {"queue_size": 8, "queue_msix_vector": 2, "queue_desc": 0x4000}
    before = {name: nic.load(name) for name in chosen}
    for name, value in chosen.items():
        nic.store(name, value)
    nic.store("queue_reset", 1)
    assert {name: nic.load(name) for name in chosen} == before != chosen
    assert nic.load("queue_reset") == 0


def test_the_time_out_is_the_pfs_register_and_everybodys():
    nic = NicAlone()
    nic.manage("page_timeout", 1000)
    nic.manage("page_timeout", 7, function=1)
    assert (nic.managed("page_timeout"), nic.managed("page_timeout", 1)) == (1000, 0)

"""The golden NIC's queues that do not run, stop or come back, by its registers alone."""

import pytest

from models.spec.iommu import PageResponse
from models.spec.nic import MERGED_BUFFERS, QueueError, Stat
from models.spec.virtio import Feature
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


def test_a_device_reset_drops_without_counting():
    nic = NicAlone()
    nic.start(*RECEIVE)
    nic.receive(1, frame(1))
    nic.store("device_status", 0)
    nic.receive(1, frame(1))
    assert nic.dropped == (0, 0, 0)


# Buffers that are too short ----------------------------------------------------------------------


def test_a_frame_that_does_not_fit_is_dropped_alone():
    nic = NicAlone()
    nic.start(*RECEIVE)
    nic.buffers(0, 12 + 59, 12, 12 + 60)
    nic.receive(0, frame(1), frame(2), frame(3))
    nic.settle()
    assert nic.used(0) == [0, 0, 72]
    assert nic.dropped == (2, 2, 0)
    assert nic.error(0) is QueueError.NONE
    assert (nic.stat(Stat.RX_PACKETS), nic.stat(Stat.RX_BYTES)) == (1, 60)


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


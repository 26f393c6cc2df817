"""The swap file and compressed pages: what comes back is what was stored."""

from random import Random

import pytest

from cosim.hypervisor.paging.page_store import PageStore
from cosim.hypervisor.paging.swap_file import SwapFile, SwapFull
from models.pagetable import KIB_4


def text(rng):
    """A page that compresses well."""
    words = [rng.randbytes(4).hex().encode() for _ in range(30)]
    return b" ".join(rng.choice(words) for _ in range(KIB_4 // 8))[:KIB_4]


def test_slots_hold_what_was_written_and_are_used_again():
    rng, swap = Random(1), SwapFile(slots=8)
    pages = {swap.store(data): data for data in (rng.randbytes(KIB_4) for _ in range(8))}
    assert sorted(pages) == list(range(8))
    with pytest.raises(SwapFull, match="All 8 slots of the swap file are in use"):
        swap.store(bytes(KIB_4))
    for slot, data in pages.items():
        assert swap.load(slot) == data
    swap.free(5)
    swap.free(2)
    assert [swap.store(bytes(KIB_4)) for _ in range(2)] == [2, 5]
    assert (swap.used, swap.written, swap.read_back) == (8, 10, 8)


def test_the_file_is_in_the_folder_and_gone_when_closed(tmp_path):
    swap = SwapFile(folder=str(tmp_path))
    swap.store(bytes(range(256)) * 16)
    assert swap.size == KIB_4
    assert not list(tmp_path.iterdir()), "it has no name"
    swap.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        swap.load(0)


def test_a_slot_holds_a_page():
    with pytest.raises(ValueError, match="A slot holds 4096 bytes, not 5"):
        SwapFile().store(b"12345")


def test_what_compresses_stays_in_memory_and_the_rest_goes_to_disk():
    rng = Random(2)
    store = PageStore(SwapFile(), pool_bytes=1 << 20)
    noise, words = rng.randbytes(KIB_4), text(rng)
    one, two = store.put(noise), store.put(words)
    assert one.slot is not None
    assert two.blob is not None
    assert store.pool_bytes == store.compressed_bytes == len(two.blob) < KIB_4 * 3 // 4
    assert (store.get(one), store.get(two)) == (noise, words)
    store.drop(one)
    store.drop(two)
    assert store.pool_bytes == store.swap.used == store.mismatches == 0


def test_a_full_pool_writes_the_longest_stored_back():
    rng = Random(3)
    store = PageStore(SwapFile(), pool_bytes=6000)
    stored = [(store.put(data), data) for data in (text(rng) for _ in range(12))]
    assert store.pool_bytes <= 6000
    assert store.swap.used > 0
    places = [copy.blob is not None for copy, _ in stored]
    assert places == sorted(places), "the oldest are on disk"
    assert all(store.get(copy) == data for copy, data in stored)
    assert store.mismatches == 0


@pytest.mark.parametrize("pool", [0, 1 << 20])
def test_a_page_that_comes_back_other_than_it_was_is_counted(pool):
    rng = Random(4)
    store = PageStore(SwapFile(), pool_bytes=pool)
    copy = store.put(text(rng))
    if copy.slot is not None:
        store.swap.store(rng.randbytes(KIB_4), copy.slot)
    else:
        copy.crc ^= 1
    store.get(copy)
    assert store.mismatches == 1

"""The IOTLB's contents against worked examples, and against a second, naive formulation."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cache import Fill, Invalidation, IotlbModel, Lookup, Space
from models.spec.config import config
from models.spec.iotlb import IotlbFill, IotlbInvalidate, IotlbLookup

HOST = Space(None, 7)
GUEST = Space(1, 7)
SECOND_ONLY = Space(1, None)


def fill(vpn, space=GUEST, size_log2=12, *, r=True, w=True, x=True, u=True, glob=False, dirty=True):
    return Fill(space, vpn, size_log2, r, w, x, u, glob, dirty)


def look(vpn, space=GUEST, device_id=3, **rights):
    return Lookup(space, vpn, device_id, **rights)


@pytest.fixture
def iotlb():
    return IotlbModel(ways=2, sets=4, superpages=2)


def test_miss_fill_hit_by_device(iotlb):
    assert not iotlb.lookup(look(5))
    iotlb.fill(fill(5))
    assert iotlb.lookup(look(5))
    assert not iotlb.lookup(look(9, device_id=4))
    assert {d: (c.hits, c.misses) for d, c in iotlb.counts.items()} == {3: (1, 1), 4: (0, 1)}
    assert (iotlb.total.hits, iotlb.total.misses) == (1, 2)
    assert iotlb.total.rate == pytest.approx(1 / 3)


def test_a_request_that_looks_again_is_counted_once(iotlb):
    waits = look(7)
    assert not iotlb.lookup(waits)
    iotlb.fill(fill(7))
    assert iotlb.lookup(waits._replace(again=True))
    assert (iotlb.counts[waits.device_id].hits, iotlb.counts[waits.device_id].misses) == (0, 1)


def test_a_lookup_in_another_set_finds_large_pages_alone(iotlb):
    iotlb.fill(fill(7))
    iotlb.fill(fill(0x200, size_log2=21))
    assert not iotlb.lookup(look(7)._replace(elsewhere=True))
    assert iotlb.lookup(look(0x207)._replace(elsewhere=True))


@pytest.mark.parametrize(
    "other",
    [
        HOST,
        SECOND_ONLY,
        Space(2, 7),
        Space(1, 8),
        Space(None, None),
        Space(0, 7),
        Space(1, 7, True),
    ],
)
def test_spaces_are_kept_apart(iotlb, other):
    iotlb.fill(fill(5))
    assert not iotlb.lookup(look(5, other))


def test_global_entry_ignores_pscid_but_not_gscid(iotlb):
    iotlb.fill(fill(5, glob=True))
    assert iotlb.lookup(look(5, Space(1, 99)))
    assert not iotlb.lookup(look(5, Space(2, 7)))
    assert not iotlb.lookup(look(5, SECOND_ONLY))


def test_victims_go_round_and_invalidation_leaves_the_pointer(iotlb):
    for vpn in (0, 4, 8):  # one set of two ways; 8 evicts way 0
        iotlb.fill(fill(vpn))
    assert {entry.vpn for entry in iotlb} == {4, 8}
    iotlb.invalidate(Invalidation(False, 1, 7, 8))  # frees way 0
    iotlb.fill(fill(12))  # takes the free way; the pointer stays at way 1
    iotlb.fill(fill(16))  # evicts way 1
    assert {entry.vpn for entry in iotlb} == {12, 16}


def test_equal_tag_is_replaced_in_place(iotlb):
    iotlb.fill(fill(0))
    iotlb.fill(fill(4, dirty=False))
    iotlb.fill(fill(4))
    assert {(entry.vpn, entry.dirty) for entry in iotlb} == {(0, True), (4, True)}


def test_superpage_covers_every_page_under_it(iotlb):
    iotlb.fill(fill(0x200, size_log2=21))
    for vpn, hit in [(0x1FF, False), (0x200, True), (0x3FF, True), (0x400, False)]:
        assert iotlb.lookup(look(vpn)) is hit


@pytest.mark.parametrize(
    ("entry", "request_rights", "hit"),
    [
        ({"w": False}, {"write": True}, False),
        ({"dirty": False}, {"write": True}, False),
        ({"dirty": False}, {}, True),
        ({"r": False}, {}, False),
        ({"x": False}, {"execute": True}, False),
        ({"r": False}, {"execute": True}, True),
        ({"u": False}, {}, False),
        ({"w": False}, {"write": True, "ats": True}, True),
        ({"dirty": False}, {"write": True, "ats": True}, False),
        ({"r": False}, {"ats": True}, False),
        ({"dirty": False}, {"ats": True}, True),
        ({"u": False}, {"privileged": True}, True),
        ({"u": False}, {"privileged": True, "execute": True}, True),
        ({}, {"privileged": True}, False),
        ({}, {"privileged": True, "sum": True}, True),
        ({}, {"privileged": True, "sum": True, "execute": True}, False),
        ({}, {"privileged": True, "sum": True, "execute": True, "ats": True}, True),
        ({"r": False}, {"write": True, "also_read": True}, False),
    ],
)
def test_rights_decide_whether_a_match_is_a_hit(iotlb, entry, request_rights, hit):
    iotlb.fill(fill(5, **entry))
    assert iotlb.lookup(look(5, **request_rights)) is hit


@pytest.mark.parametrize(
    ("op", "left"),
    [
        (Invalidation(False, None, None, None), {1, 2, 3, 4}),
        (Invalidation(False, 1, None, None), {0, 2, 4}),
        (Invalidation(False, 1, 7, None), {0, 2, 3, 4}),
        (Invalidation(False, 1, None, 3), {0, 1, 2, 4}),
        (Invalidation(True, None, None, None), {0}),
        (Invalidation(True, 1, None, 0x999), {0, 4}),
        (Invalidation(False, 1, None, 0, pages_log2=1), {0, 2, 3, 4}),
        (Invalidation(False, 1, None, 0, pages_log2=2), {0, 2, 4}),
    ],
)
def test_invalidations(op, left):
    iotlb = IotlbModel(ways=4, sets=4, superpages=2)
    for vpn, space in enumerate([HOST, GUEST, SECOND_ONLY, GUEST, Space(2, 7)]):
        iotlb.fill(fill(vpn, space, glob=vpn == 3))
    iotlb.invalidate(op)
    assert {entry.vpn for entry in iotlb} == left


def test_order_within_a_cycle(iotlb):
    everything = Invalidation(False, 1, None, None)
    outcomes = iotlb.replay(
        lookups=[(1, look(5)), (2, look(5)), (3, look(5))],
        fills=[(1, fill(5)), (3, fill(5))],
        invalidations=[(2, everything), (3, everything)],
    )
    assert outcomes == {True: 1, False: 2}


def test_records_decode():
    key = {"gv": 1, "gscid": 0x1234, "pv": 0, "pscid": 0, "vpn": 0xABCDEF}
    bits = IotlbLookup.const({"key": key, "device_id": 0x445566, "write": 1, "ats": 1}).as_bits()
    assert Lookup.from_bits(bits) == Lookup(
        Space(0x1234, None), 0xABCDEF, 0x445566, write=True, ats=True
    )
    key |= {"gv": 0, "gscid": 0, "pv": 1, "pscid": 0x54321}
    bits = IotlbFill.const({"key": key, "size": 21, "r": 1, "u": 1, "dirty": 1}).as_bits()
    assert Fill.from_bits(bits) == Fill(
        Space(None, 0x54321), 0xABCDEF, 21, True, False, False, True, False, True
    )
    bits = IotlbInvalidate.const({"gv": 1, "gscid": 5, "av": 1, "addr": 77, "pscid": 3}).as_bits()
    assert Invalidation.from_bits(bits) == Invalidation(False, 5, None, 77)
    for addr, pages_log2 in ((0b1000, 1), (0b1011, 3), ((1 << 52) - 1, 53)):
        bits = IotlbInvalidate.const({"av": 1, "addr": addr, "s": 1}).as_bits()
        assert Invalidation.from_bits(bits) == Invalidation(False, None, None, addr, pages_log2)


class Naive:
    """Slots by name, ranges of pages, everything scanned."""

    def __init__(self, ways, sets, superpages):
        self.sets, self.order = sets, {}
        for number in range(sets):
            self.order[number] = [(number, way) for way in range(ways)]
        self.order["super"] = [("super", index) for index in range(superpages)]
        self.slots = {}
        self.evicted = dict.fromkeys(self.order, 0)

    @staticmethod
    def pages(entry):
        span = 2 ** (entry.size_log2 - 12)
        base = entry.vpn // span * span
        return range(base, base + span)

    def room(self, space, vpn):
        return (vpn ^ (space.gscid or 0)) % self.sets

    def candidates(self, space, vpn):
        return [*self.order[self.room(space, vpn)], *self.order["super"]]

    def same(self, entry, space):
        if entry.glob and space.pscid is not None and entry.space.pscid is not None:
            return entry.space._replace(pscid=0) == space._replace(pscid=0)
        return entry.space == space

    def lookup(self, lookup):
        for slot in self.candidates(lookup.space, lookup.vpn):
            entry = self.slots.get(slot)
            if entry and self.same(entry, lookup.space) and lookup.vpn in self.pages(entry):
                allowed = set("rwx")
                if lookup.privileged and lookup.space.pscid is not None:
                    if entry.u:
                        allowed = set("rw") if lookup.sum else set()
                elif not entry.u:
                    allowed = set()
                has = {name for name in "rwx" if getattr(entry, name)} & allowed
                if lookup.ats:
                    update = lookup.write and "w" in has and not entry.dirty
                    return "r" in has and not update
                wanted = {"w"} if lookup.write else set()
                wanted |= {"x"} if lookup.execute else set()
                wanted |= {"r"} if lookup.also_read or not wanted else set()
                return wanted <= has and (entry.dirty or not lookup.write)
        return False

    def fill(self, new):
        room = "super" if new.size_log2 > 12 else self.room(new.space, new.vpn)
        slots = self.order[room]
        for slot in slots:
            old = self.slots.get(slot)
            if (
                old
                and self.same(old, new.space)
                and old.glob == new.glob
                and self.pages(old) == self.pages(new)
            ):
                break
        else:
            empty = [slot for slot in slots if slot not in self.slots]
            if empty:
                slot = empty[0]
            else:
                slot = slots[self.evicted[room] % len(slots)]
                self.evicted[room] += 1
        self.slots[slot] = new

    @staticmethod
    def meets(op, pages):
        span = 2**op.pages_log2
        first = op.vpn // span * span
        return first < pages.stop and pages.start < first + span

    def invalidate(self, op):
        for slot, entry in list(self.slots.items()):
            if op.second_stage:
                gone = entry.space.gscid is not None and (
                    op.gscid is None or op.gscid == entry.space.gscid
                )
            else:
                gone = (
                    entry.space.pscid is not None
                    and entry.space.gscid == op.gscid
                    and (op.pscid is None or (not entry.glob and entry.space.pscid == op.pscid))
                    and (op.vpn is None or entry.piece or self.meets(op, self.pages(entry)))
                )
            if gone:
                del self.slots[slot]


bits = st.booleans()
spaces = st.builds(Space, st.sampled_from([None, 0, 1]), st.sampled_from([None, 0, 1]), bits)
vpns = st.sampled_from([0, 1, 4, 8, 12, 0x1FF, 0x200, 0x201, 0x3FF, 0x40000])
lookups = st.builds(Lookup, spaces, vpns, st.integers(0, 1), bits, bits, bits, bits, bits, bits)
fills = st.builds(
    Fill,
    spaces,
    vpns,
    st.sampled_from([12, 12, 16, 21, 30]),
    bits,
    bits,
    bits,
    bits,
    bits,
    bits,
    bits,
)
ids = st.sampled_from([None, 0, 1])
invalidations = st.builds(
    Invalidation, bits, ids, ids, st.none() | vpns, st.sampled_from([0, 0, 1, 3, 9])
)


@settings(max_examples=300, deadline=None)
@given(
    operations=st.lists(lookups | fills | invalidations, min_size=5, max_size=60),
    geometry=st.sampled_from([(1, 2, 1), (2, 2, 2), (3, 4, 3)]),
)
def test_equals_naive_formulation(operations, geometry):
    ways, sets, superpages = geometry
    model, naive = IotlbModel(ways=ways, sets=sets, superpages=superpages), Naive(*geometry)
    for operation in operations:
        if isinstance(operation, Lookup):
            assert model.lookup(operation) == naive.lookup(operation)
        elif isinstance(operation, Fill):
            model.fill(operation)
            naive.fill(operation)
        else:
            model.invalidate(operation)
            naive.invalidate(operation)
        assert sorted(model, key=repr) == sorted(naive.slots.values(), key=repr)


def test_speed():
    """A million records take seconds, not minutes; here a tenth of that."""
    rng = random.Random(1)
    model = IotlbModel.from_config(config("default").iommu)
    records = [look(rng.randrange(400), device_id=rng.randrange(4)) for _ in range(100_000)]
    start = time.process_time()
    for record in records:
        if not model.lookup(record):
            model.fill(fill(record.vpn))
    assert model.total.hits > 0
    assert time.process_time() - start < 2


@pytest.mark.parametrize("size_log2", [12, 21])
def test_any_address_removes_pieces_of_larger_first_stage_pages(iotlb, size_log2):
    whole, piece = fill(0, size_log2=size_log2), fill(1 << 12, size_log2=size_log2)
    iotlb.fill(whole)
    iotlb.fill(piece._replace(piece=True))
    iotlb.invalidate(Invalidation(False, GUEST.gscid, None, 1 << 20))
    assert list(iotlb) == [whole]

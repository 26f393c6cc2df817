"""The translator against the golden model: random directories, tables and requests at once."""

from collections import Counter
from dataclasses import replace

import pytest

from models.iommu import GoldenIommu, Parameters, Request
from models.iommu.records import Fault, Response
from models.iommu.translate import Identity
from models.memory import Memory
from models.spec.config import IommuConfig
from models.spec.iommu import Cause, DeviceContext, FaultRecord, ProcessContext
from models.spec.translation import AddressType, TranslationRequest, TranslationStatus
from rtl.iommu.seams import InvalidateKind
from tests.rtl.iommu.walk_world import DDT, WalkWorld
from tests.rtl.iommu.walker_world import PAGES, SLOTS, random_tables, tables_of

SMALL = IommuConfig(
    context_entries=1,
    process_entries=1,
    iotlb_ways=2,
    iotlb_sets=2,
    iotlb_superpages=2,
    misses=3,
    walkers=2,
)
FULL = replace(
    SMALL,
    pas=50,
    ddt_levels=3,
    **dict.fromkeys(("sv48", "sv57", "sv48x4", "sv57x4", "svpbmt", "t2gpa", "amo_hwad"), True),
    **dict.fromkeys(("msi_flat", "msi_mrif", "dbg", "qosid", "s", "nl"), True),
    **dict.fromkeys(("pd8", "pd17", "pd20"), True),
)
LARGE = replace(
    FULL, context_entries=16, process_entries=8, misses=8, walkers=8, iotlb_sets=16, walk_cache=16
)
DEVICES, PROCESSES = 6, (0, 1, 2)
#: Pages of process directories: PD8's leaf table, and pointers to it of PD17 and PD20.
PDT = {1: 64, 2: 65, 3: 66}
MSI_TABLE = 67
MSI_PATTERN, MSI_MASK = 20, 3
#: Event that each kind of request counts as, once.
EVENTS = {
    AddressType.UNTRANSLATED: "untranslated",
    AddressType.TRANSLATED: "translated",
    AddressType.ATS_REQUEST: "ats",
}
#: log2 of the sizes of pages, NAPOT ones too.
PAGE_SIZES = (12, 16, 21, 30, 39, 48, 56)


def device(rng, config):
    """A device context, mostly sound."""
    first = rng.choice([0, 8, *([9, 10] if config.sv57 else [])])
    second = rng.choice([0, 8, *([9, 10] if config.sv57x4 else [])])
    roots = [page for page in PAGES if page % 4 == 0]
    pdtv = config.pd8 and rng.random() < 0.6
    ats = rng.random() < 0.7
    msi = config.msi_flat and second and rng.random() < 0.5
    fsc = {"mode": first, "ppn": rng.choice(tables_of(max(0, first - 6)))}
    if pdtv:
        depth = rng.choice([0, 1, 2, 3])
        fsc = {"mode": depth, "ppn": PDT.get(depth, 0)}
    return {
        "tc": {
            "v": rng.random() < 0.95,
            "en_ats": ats,
            "en_pri": ats and rng.random() < 0.5,
            "t2gpa": config.t2gpa and ats and second and rng.random() < 0.3,
            "dtf": rng.random() < 0.2,
            "pdtv": pdtv,
            "dpe": pdtv and rng.random() < 0.5,
        },
        "iohgatp": {"mode": second, "gscid": rng.randrange(1 << 16), "ppn": rng.choice(roots)},
        "ta": {"pscid": rng.randrange(1 << 20)},
        "fsc": fsc,
    } | (
        {
            "msiptp": {"mode": 1, "ppn": MSI_TABLE},
            "msi_addr_mask": MSI_MASK,
            "msi_addr_pattern": MSI_PATTERN,
        }
        if msi
        else {}
    )


def fill(rng, store, config):
    """Directories and tables."""
    random_tables(rng, store, clear=0.02, napot=True, pbmt=config.svpbmt)
    for page in PAGES:  # the lowest superpages map themselves, nearly always
        if page % 5:
            own = 0xDF if rng.random() < 0.9 else 0xDF & ~(1 << rng.randrange(8))
            store.write(page << 12, own.to_bytes(8, "little"))
    bits = 512 if config.msi_flat else 256
    for number in range(DEVICES):
        raw = DeviceContext.const(device(rng, config)).as_bits() & (1 << bits) - 1
        store.write(DDT + bits // 8 * number, raw.to_bytes(bits // 8, "little"))
    for process in PROCESSES:
        mode = rng.choice([0, 8, *([9, 10] if config.sv57 else [])])
        context = {
            "ta": {
                "v": rng.random() < 0.9,
                "ens": rng.randrange(2),
                "sum": rng.randrange(2),
                "pscid": rng.randrange(1 << 20),
            },
            "fsc": {"mode": mode, "ppn": rng.choice(tables_of(max(0, mode - 6)))},
        }
        raw = ProcessContext.const(context).as_bits().to_bytes(16, "little")
        store.write((PDT[1] << 12) + 16 * process, raw)
    for level in (2, 3):
        store.write(PDT[level] << 12, (PDT[level - 1] << 10 | 1).to_bytes(8, "little"))
    for number, entry in enumerate((0x123 << 10 | 7, 0, 0x80 << 10 | 3, 0x456 << 10 | 5)):
        store.write((MSI_TABLE << 12) + 16 * number, entry.to_bytes(8, "little"))
        store.write((MSI_TABLE << 12) + 16 * number + 8, (0x77 << 10 | 5).to_bytes(8, "little"))


def request(rng, config):
    """A request, most often one that has a meaning."""
    at = rng.choice([AddressType.UNTRANSLATED] * 3 + [AddressType.ATS_REQUEST] * 2
                    + [AddressType.TRANSLATED])  # fmt: skip
    slot = rng.choice([*SLOTS[:3], *PAGES])
    iova = slot << 12 | rng.randrange(4096)
    if rng.random() < 0.3:
        iova |= rng.choice(SLOTS) << rng.choice([21, 30, 39])
    if iova >> 38 & 1:
        iova |= (1 << 64) - (1 << rng.choice([39, 48, 57]))
    with_process = config.pd8 and rng.random() < 0.5
    debug = config.dbg and at == AddressType.UNTRANSLATED and rng.random() < 0.1
    write = rng.random() < 0.4
    return {
        "at": at,
        "device_id": rng.randrange(DEVICES) | (rng.random() < 0.03) << rng.choice([6, 7, 15]),
        "process_id": (rng.choice(PROCESSES) | (rng.random() < 0.03) << 9) if with_process else 0,
        "pv": with_process,
        "priv": with_process and rng.randrange(2),
        "exec": not debug and rng.random() < 0.2,
        "write": write,
        "iova": iova,
        "debug": debug,
        "also_read": debug and write,
    }


def asked(bits) -> Request:
    """The same for the golden model."""
    return Request(
        device_id=bits["device_id"],
        iova=bits["iova"],
        at=bits["at"],
        process_id=bits["process_id"] if bits["pv"] else None,
        write=bool(bits["write"]),
        execute=bool(bits["exec"]),
        privileged=bool(bits["priv"]),
        also_read=bool(bits["also_read"]),
    )


def compare(bits, got, want):
    """Whether an answer is the golden model's."""
    assert (got.status, got.cause) == (int(want.status), want.cause)
    if want.cause:
        return
    ats = bits["at"] == AddressType.ATS_REQUEST
    assert (got.r, got.x) == (want.r, want.x)
    if bits["write"] or not ats:
        assert got.w == want.w
    assert got.pbmt == want.pbmt
    assert got.mrif == (want.mrif is not None and not ats)
    if got.mrif:
        assert (got.spa, got.nid) == (want.mrif.address, want.mrif.notice_id)
        assert got.notice_ppn << 12 == want.mrif.notice_address
    else:
        assert got.spa == want.spa
    if ats:
        assert (got.u, got.glob, got.priv) == (want.u, want.glob, want.priv)
        # Beside interrupt files a walk finds the whole range, the IOTLB keeps a page of a table's.
        range_ = want.size.bit_length() - 1
        kept = max(size for size in PAGE_SIZES if size <= range_)
        assert got.size in (range_, kept)


class Agreement(WalkWorld):
    """Memory of both, and what both say."""

    def __init__(self, config, seed):
        super().__init__(config, seed=seed, latency=3, jitter=9)
        self.store = Memory(config.pas)
        self.golden = GoldenIommu(self.store, Parameters.from_config(config))
        self.golden.write_register(16, 8, DDT >> 12 << 10 | 2)
        self.wanted_faults: Counter = Counter()
        self.golden._push_fault = self.record
        self.seen: Counter = Counter()
        self.requests: Counter = Counter()

    def record(self, fields):
        self.wanted_faults[
            tuple(int(fields.get(n, 0)) for n in FaultRecord.as_shape().members)
        ] += 1

    def renew(self):
        """New contents of memory."""
        self.store._pages.clear()
        fill(self.rng, self.store, self.config)
        self.words = {
            (number << 12) + at: int.from_bytes(page[at : at + 8], "little")
            for number, page in self.store._pages.items()
            for at in range(0, 4096, 8)
        }

    def debug_fault(self, found):
        """Debug translations to an MRIF end with a fault (section "Translation-response")."""
        context = self.golden._translator.locate(found.device_id)
        fault = Fault(Cause.TYPE_DISALLOWED)
        self.golden._record(found, Identity(context=context), fault)
        return Response(
            status=TranslationStatus.UNSUPPORTED_REQUEST, cause=int(Cause.TYPE_DISALLOWED)
        )

    async def together(self, ctx, count):
        """Requests at once; those that the port cannot express are left out."""
        bits = {}
        while len(bits) < count:
            one = request(self.rng, self.config)
            found = asked(one)
            before = self.wanted_faults.copy()
            want = self.golden.translate(found)
            if one["debug"] and want.mrif:
                want = self.debug_fault(found)
            if want.spa >> 56:
                self.wanted_faults = before
                continue
            bits[len(bits)] = (one, want)
        for tag, (one, _) in bits.items():
            port = self.dut.translate.request
            self.answers.pop(tag, None)
            ctx.set(port.payload, TranslationRequest.const({"tag": tag} | one))
            ctx.set(port.valid, 1)
            while not (await ctx.tick().sample(port.ready))[-1]:
                pass
            self.asked[tag] = self.now
            ctx.set(port.valid, 0)
        for one, _ in bits.values():
            self.requests[EVENTS[one["at"]]] += 1
        for tag, (one, want) in bits.items():
            answer, _ = await self.answer(ctx, tag)
            self.seen[want.cause] += 1
            try:
                compare(one, answer, want)
            except AssertionError as error:
                raise AssertionError(f"{one} {want} {answer}") from error

    async def forget(self, ctx):
        for op in (
            {"kind": InvalidateKind.VMA},
            {"kind": InvalidateKind.GVMA},
            {"kind": InvalidateKind.VMA, "gv": 0},
            {"kind": InvalidateKind.DDT},
        ):
            await self.invalidate(ctx, **op)


@pytest.mark.parametrize(
    ("config", "rounds", "seed"),
    [
        pytest.param(SMALL, 3, 1, id="small"),
        *(
            pytest.param(config, 5, seed, id=f"{name}-{seed}", marks=pytest.mark.full)
            for name, config in (("small", SMALL), ("full", FULL), ("large", LARGE))
            for seed in (1, 2)
        ),
    ],
)
def test_random_requests_agree(config, rounds, seed):
    print(f"seed {seed}")
    world = Agreement(config, seed)

    async def test(ctx):
        for _ in range(rounds):
            world.renew()
            await world.forget(ctx)
            for _ in range(3):
                await world.together(ctx, 40)
        await ctx.tick().repeat(20)
        got = Counter(
            tuple(int(getattr(record, n)) for n in FaultRecord.as_shape().members)
            for record in world.faults
        )
        assert got == world.wanted_faults
        assert {name: world.counted[name] for name in world.requests} == world.requests

    world.run(test)
    print(dict(world.seen), world.events)
    assert world.seen[0] > 100

"""What guests boot into, and how packages that cannot be had are reported."""

import gzip
import lzma
from pathlib import Path

import pytest

from cosim.bench.build import ToolError
from cosim.linux import kernel as kernel_builder
from cosim.linux import main, packages
from cosim.linux.cases import CASES
from cosim.linux.figures import caught, passed
from cosim.linux.initramfs import archive, initramfs, modules_with_needs
from cosim.linux.qemu import Outcome, command_line


def module(name, needs):
    return f"ELF\0license=GPL\0depends={needs}\0name={name}\0".encode()


@pytest.fixture
def kernel(tmp_path):
    """A folder of modules, packed and not."""
    folder = tmp_path / "modules" / "kernel"
    (folder / "net").mkdir(parents=True)
    (folder / "net" / "virtio_net.ko.xz").write_bytes(
        lzma.compress(module("virtio_net", "net_failover,built_in"))
    )
    (folder / "net-failover.ko").write_bytes(module("net_failover", "failover"))
    (folder / "failover.ko").write_bytes(module("failover", ""))
    return tmp_path / "modules"


def test_modules_come_after_what_they_need(kernel):
    found = modules_with_needs(kernel, ("virtio_pci", "virtio-net"))
    assert list(found) == ["failover", "net_failover", "virtio_net"]
    assert found["virtio_net"] == module("virtio_net", "net_failover,built_in")


def unpacked(raw: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content of what a cpio archive of format "newc" holds, as Linux documents it."""
    found, at = {}, 0
    while True:
        assert raw[at : at + 6] == b"070701"
        fields = [int(raw[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = raw[at + 110 : at + 110 + length - 1].decode()
        content = at + 110 + length + -(110 + length) % 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, raw[content : content + size])
        at = content + size + -size % 4


def test_initramfs_is_an_archive(kernel, tmp_path):
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"#!program")
    modules = modules_with_needs(kernel, ("virtio_net",))
    packed = initramfs(busybox, modules, "echo hello\n", {"payload": bytes(range(7))})
    raw = gzip.decompress(packed)
    out = unpacked(raw)
    assert out["payload"][1] == bytes(range(7))
    init = out["init"][1].decode()
    order = [init.index(f"insmod /lib/modules/{name}.ko") for name in modules]
    assert order == sorted(order)
    assert init.endswith("echo hello\n")
    assert out["init"][0] & 0o111
    assert out["lib/modules/failover.ko"][1] == modules["failover"]


def test_archive_ends_and_is_aligned():
    raw = archive({"a": b"1", "bc": b"23456"})
    assert raw.startswith(b"070701")
    assert not len(raw) % 4
    assert b"TRAILER!!!" in raw[-20:]


@pytest.mark.parametrize("configuration", ["tiny", "default"])
def test_every_case_makes_sense(configuration):
    for name, case in CASES.items():
        assert case.name == name
        assert case.what
        assert "probe" in case.tests[:2]
        system = case.system(configuration)
        assert not (case.owns_iommu and system.nic.control_queue)
        assert 1 <= case.guests <= system.nic.vfs
        assert (case.guests > 1) == ("meet" in case.tests)
        script = Path(main.__file__).with_name("guest.sh").read_text(encoding="utf-8")
        assert all(f"\ntest_{test}() {{" in script for test in case.tests)
        if case.owns_iommu:
            slot, function = map(int, case.slots[1].split("."))
            assert system.nic.device_id + case.function(1) == slot << 3 | function, (
                "device_id is the routing ID"
            )


def test_command_line_names_every_function():
    line = command_line(
        ("qemu",),
        architecture="amd64",
        kernel="k",
        initramfs="i",
        sockets={"5.0": "/s/1", "6.0": "/s/2"},
        memory_mb=64,
        cpus=2,
        tree="t",
    )
    assert (line[line.index("-smp") + 1], line[line.index("-dtb") + 1]) == ("2", "t")
    devices = [line[at + 1] for at, word in enumerate(line) if word == "-device"]
    assert ["/s/1" in devices[0], "/s/2" in devices[1]] == [True, True]
    assert all('"driver": "vfio-user-pci"' in device for device in devices)


def test_what_a_guest_says_is_understood():
    outcome = Outcome()
    for line in ("noise", "@BOOT 6.12 1.5", "@TEST ping", "@PASS ping", "@TEST tcp"):
        outcome.take(line)
    assert (outcome.running, outcome.ended) == ("tcp", False)
    assert not outcome.waits
    outcome.take("@WAIT")
    assert outcome.waits
    for line in ("@FAIL tcp: connection", "@STATISTICS 12 34", "@END"):
        outcome.take(line)
    assert (outcome.passed, outcome.failed) == (["ping"], ["tcp: connection"])
    assert (outcome.sent, outcome.received, outcome.ended) == (12, 34, True)


def test_without_apt_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("IOVIRT_BUILD", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt-get is not there: name QEMU and kernel by options"):
        packages.fetch_kernel("amd64", lambda text: None)
    assert not list((tmp_path / "linux").glob(".kernel*")), "half a folder stays"


def test_a_qemu_that_cannot_do_it_is_refused(tmp_path):
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\necho 'name \"virtio-net-pci\"'\n")
    program.chmod(0o755)
    with pytest.raises(ToolError, match="has no vfio-user-pci"):
        packages.local_qemu(program)
    program.write_text("#!/bin/sh\necho 'name \"vfio-user-pci\"'\n")
    assert packages.local_qemu(program).command == (str(program),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"problems": ["a guest has not come to its end"]},
        {"wrong_frames": 1},
        {"stale_hits": 1},
        {"guests": [{"failed": []}, {"failed": ["tcp: connection"]}]},
    ],
)
def test_a_case_fails_for_each_of_what_can_be_wrong(wrong):
    good = {"problems": [], "wrong_frames": 0, "stale_hits": 0, "guests": [{"failed": []}]}
    assert passed(good)
    assert not passed(good | wrong)


def test_a_plant_is_caught_by_the_watcher_only():
    assert caught({"passed": False, "stale_hits": 3})
    assert not caught({"passed": False, "stale_hits": 0}), "it failed for something else"
    assert not caught({"passed": True, "stale_hits": 0})


def test_without_a_compiler_no_kernel_is_built(tmp_path, monkeypatch):
    monkeypatch.setenv("IOVIRT_BUILD", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="make is not there: --kernel names a kernel"):
        kernel_builder.build_kernel(lambda text: None)
    assert not list((tmp_path / "linux").glob(".kernel*")), "half a folder stays"


def test_the_newest_source_is_taken():
    assert kernel_builder.newest(
        ["linux-source-6.12", "linux-source-7.2", "linux-source-7.10"]
    ) == ("linux-source-7.10")
    assert not kernel_builder.newest(["linux-source", "linux-source-7.x-rt"])


def test_one_word_is_added_to_the_source():
    before = "\nconfig IOMMU_DMA\n\tdef_bool ARM64 || X86 || S390\n\tselect IOMMU_IOVA\n"
    after = kernel_builder.add_word(before)
    assert after == before.replace("S390", "S390 || RISCV")
    assert kernel_builder.add_word(after) == after
    with pytest.raises(ToolError, match="IOMMU_DMA"):
        kernel_builder.add_word("config IOMMU_IOVA\n")


def test_options_that_a_kernel_cannot_have_are_seen():
    wanted = "# a comment\n\nCONFIG_A=y\nCONFIG_B=y\n"
    assert kernel_builder.missing_options(wanted, "CONFIG_A=y\n# CONFIG_B is not set\n") == [
        "CONFIG_B=y"
    ]


def test_mistakes_are_planted_where_they_can_be_found():
    asked = main.LinuxOptions(plant="no-iotinval")
    with pytest.raises(ToolError, match="cannot be planted in amd64-vf"):
        main.run_cases(["amd64-vf"], asked)

"""What QEMU once said to the RTL, said to the golden machine: it must answer the same."""

import os
import struct
from pathlib import Path

from cosim.linux.guest_ram import GuestRam, Place
from cosim.linux.pump import Pump
from cosim.linux.virtual_function import VirtualFunction
from cosim.vfio_user.protocol import Command
from models.spec.nic import initial_mac
from tests.cosim.platform import run
from tests.cosim.vfio_user.client import ClientBus

_RECORD = Path(__file__).with_name("qemu.txt")
_RAM_BYTES = 1 << 28
_MESSAGES = 386


def recorded():
    """Line number, command, descriptors, payload and answer of each message."""
    lines = _RECORD.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        said, _, answer = line.partition(":")
        verb, *words = said.split()
        if verb in ("read", "write"):
            region, offset, rest = int(words[0]), int(words[1], 0), words[2]
            data = bytes.fromhex(rest) if verb == "write" else b""
            head = struct.pack("<QII", offset, region, len(data) or int(rest))
            command = Command.REGION_WRITE if verb == "write" else Command.REGION_READ
            yield number, command, 0, head + data, head + bytes.fromhex(answer)
        else:
            payload = b"" if words[1] == "-" else bytes.fromhex(words[1])
            yield number, Command(int(verb)), int(words[0]), payload, bytes.fromhex(answer)


def descriptors(command, count, memory):
    """As many as came: of memory, or to be signalled."""
    if command == Command.DMA_MAP:
        return [memory] * count
    return [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(count)]


def test_the_golden_machine_answers_as_the_rtl_did(tmp_path):
    async def scenario(platform):
        machine, hypervisor = platform.machine, platform.hypervisor
        ram = GuestRam(machine.memory, hypervisor.pages, Place(), machine.now)
        vm = hypervisor.new_vm("guest", 0, memory=ram, message_gpa=0xFEE0_0000)
        bar = await hypervisor.assign(vm, 1, initial_mac(1), ats=False)
        pump = Pump(machine, machine.now)
        path = tmp_path / "function"
        pump.serve(path, VirtualFunction(hypervisor, vm, ram, bar))
        machine.spawn(pump.run(lambda: False), "pump")
        client = ClientBus(machine, path)
        memory = os.memfd_create("guest")
        os.ftruncate(memory, _RAM_BYTES)
        messages = 0
        for number, command, count, payload, answer in recorded():
            fds = descriptors(command, count, memory)
            found = await client.ask(command, payload, fds)
            assert found == answer, f"line {number}: {found.hex()}"
            messages += 1
            for fd in fds if command != Command.DMA_MAP else ():
                os.close(fd)
        client.hang_up()
        os.close(memory)
        assert ram.resident_pages > 30_000
        return messages

    assert run(scenario, name="tiny") == _MESSAGES

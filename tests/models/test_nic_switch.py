"""The golden switch, where the hardware once differed from it."""

from models.nic.function import Function
from models.nic.switch import Switch
from models.spec.config import config
from models.spec.nic import FunctionControl, initial_mac
from models.spec.virtio import DeviceStatus

TINY = config("tiny").nic


def test_promiscuous_functions_get_everything_but_their_own():
    sent: list[bytes] = []
    functions = [
        Function(TINY, number, lambda *_: None, lambda *_: None) for number in range(TINY.functions)
    ]
    for function in functions:
        control = {"enable": 1, "promiscuous": function.number == 3}
        function.control = FunctionControl.const(control).as_bits()
        function.status = DeviceStatus.DRIVER_OK
    switch = Switch(functions, TINY, sent.append)
    known = initial_mac(1) + bytes(54)
    unknown = bytes(60)
    switch.from_function(2, known)
    switch.from_function(2, unknown)
    switch.from_function(3, known)
    switch.from_port(unknown)
    assert [switch.take(3) for _ in range(3)] == [known, unknown, unknown]
    assert not switch.waiting(3)
    assert [switch.take(1) for _ in range(2)] == [known, known]
    assert sent == [unknown]

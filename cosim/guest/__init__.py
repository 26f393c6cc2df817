"""Guest software: drivers that work only through memory, registers, doorbells and interrupts.

Plain asynchronous Python over :mod:`cosim.port`; free of cocotb and of global state.
"""

"""Hypervisor software: VMs, exits, second-stage tables, page requests, function assignment.

Plain asynchronous Python over :mod:`cosim.port`; free of cocotb and of global state.
"""

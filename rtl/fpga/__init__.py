"""Synthesis for Lattice ECP5 with open tools: cells per block, placed clock.

``synth`` is run by ``make synth`` and ``make synth-full``.
"""

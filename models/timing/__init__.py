"""Cycle-approximate models of what the RTL does in time."""

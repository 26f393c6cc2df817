"""PCI configuration space: what all functions have in common."""

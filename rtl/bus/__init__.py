"""Bus signatures (AXI4, AXI4-Lite, AXI4-Stream) and the plumbing between blocks."""

"""Measurements of the RTL in cycles; each is a command ``iovirt bench NAME``."""

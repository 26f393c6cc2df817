"""One file per claim; each is a command ``iovirt run NAME`` that prints its figures."""

"""Documents and the C header, made from the tables of :mod:`models.spec`.

``python -m models.manual`` writes them (``make docs``); a test holds the files against what would
be written.
"""

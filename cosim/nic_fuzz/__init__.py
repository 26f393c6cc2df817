"""Random agreement between the RTL system and the golden machine, on drivers that mean harm.

Two correct drivers exchange frames all the while; a third function is in the hands of a hostile
one.  ``generator`` makes what it does (``session``: plain data, a JSON file), ``hostile`` does it,
``world`` has the correct drivers and judges that they never notice, ``play`` runs a session on both
machines and compares what came of it, ``main`` is the command ``iovirt fuzz nic``.
"""

"""Backup rings: where frames wait whose receive queue waits for a page.

::

    steered --+--------------------------------> o, the queue's receive FIFO
              '-> Spill --> ring in memory --> Restore --^

Of each queue five counters run on, each behind the one before it: frames that have ``entered``,
whose entry is ``taken`` and is ``written``, that are ``fetched`` again and have ``left``.
Everything that comes for a queue between the first and the last goes the same way, so order stays.
"""

from rtl.nic.backup.backup import Backup

__all__ = ["Backup"]

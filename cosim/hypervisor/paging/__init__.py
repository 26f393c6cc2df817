"""The pager: more memory for guests than the host has.

``swap_file`` and ``page_store`` hold what is not resident, ``contents`` says which guest pages show
which content, ``pager`` serves faults and takes translations back, ``reclaim`` evicts, ``sharing``
merges equal pages, ``balloon`` asks guests for pages that they do not use; ``memory`` is what a VM
sees of it all.  docs/overcommit.md tells how they work together.
"""

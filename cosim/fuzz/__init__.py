"""Random agreement between an IOMMU and the golden one.

``generator`` makes scenarios (``scenario``: plain data, a JSON file), ``lockstep`` plays one on the
oracle and on an implementation side by side and holds everything visible against each other,
``shrink`` makes a failing one small, ``main`` is the command ``iovirt fuzz iommu``.
"""

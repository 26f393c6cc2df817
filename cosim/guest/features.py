"""Features that the virtio-net driver knows (virtio 1.3, 5.1.3 and 6)."""

from models.spec.virtio import Feature

__all__ = ["KNOWN_FEATURES", "NEEDED_FEATURES", "consistent"]

#: Features without which the driver does not work.
NEEDED_FEATURES = 1 << Feature.VERSION_1 | 1 << Feature.ACCESS_PLATFORM
#: Every feature that the driver can make use of.
KNOWN_FEATURES = NEEDED_FEATURES | sum(
    1 << feature
    for feature in (
        *(Feature.ORDER_PLATFORM, Feature.RING_RESET, Feature.RING_INDIRECT_DESC),
        *(Feature.RING_EVENT_IDX, Feature.RING_PACKED, Feature.IN_ORDER),
        *(Feature.NET_MAC, Feature.NET_MTU, Feature.NET_STATUS, Feature.NET_MRG_RXBUF),
        *(Feature.NET_CSUM, Feature.NET_GUEST_CSUM, Feature.NET_HOST_TSO4),
        *(Feature.NET_HOST_TSO6, Feature.NET_HOST_ECN, Feature.NET_CTRL_VQ, Feature.NET_MQ),
        *(Feature.NET_CTRL_RX, Feature.NET_CTRL_VLAN, Feature.NET_CTRL_MAC_ADDR),
        *(Feature.NET_RSS, Feature.NET_NOTF_COAL, Feature.NET_VQ_NOTF_COAL),
    )
)
#: Without the second, the first must not be accepted (5.1.3.1).
_DEPENDS = (
    (Feature.NET_HOST_TSO4, Feature.NET_CSUM),
    (Feature.NET_HOST_TSO6, Feature.NET_CSUM),
    (Feature.NET_HOST_ECN, Feature.NET_CSUM),
    (Feature.NET_CTRL_RX, Feature.NET_CTRL_VQ),
    (Feature.NET_CTRL_VLAN, Feature.NET_CTRL_VQ),
    (Feature.NET_CTRL_MAC_ADDR, Feature.NET_CTRL_VQ),
    (Feature.NET_MQ, Feature.NET_CTRL_VQ),
    (Feature.NET_RSS, Feature.NET_CTRL_VQ),
    (Feature.NET_NOTF_COAL, Feature.NET_CTRL_VQ),
    (Feature.NET_VQ_NOTF_COAL, Feature.NET_CTRL_VQ),
)


def consistent(features: int) -> int:
    """Features without those that others need."""
    for feature, needed in _DEPENDS:
        if not features >> needed & 1:
            features &= ~(1 << feature)
    return features

"""Virtio's layouts where bytes matter, and the features that configurations offer."""

from dataclasses import replace

import pytest

from models.spec.config import NicConfig, config
from models.spec.nic import BASE_FEATURES, FEATURE_FLAGS, offered_features
from models.spec.virtio import (
    EventFlags,
    EventSuppression,
    Feature,
    NetConfig,
    PackedDescriptor,
    avail_event_offset,
    used_event_offset,
)
from models.spec.virtio_net import RssHead, control_queue


def test_packed_descriptor_as_bytes():
    fields = {"addr": 0x1122334455667788, "len": 0x99AABBCC, "id": 0xDDEE, "flags": 0x8082}
    raw = PackedDescriptor.const(fields).as_bits().to_bytes(16, "little")
    assert raw.hex() == "8877665544332211ccbbaa99eedd8280"


def test_event_suppression_as_bytes():
    fields = {"offset": 0x1234, "wrap": 1, "flags": EventFlags.DESC}
    assert EventSuppression.const(fields).as_bits().to_bytes(4, "little").hex() == "34920200"


def test_net_config_and_rss_are_as_long_as_virtio_says():
    assert NetConfig.as_shape().size == 8 * 24
    assert RssHead.as_shape().size == 8 * 8


def test_event_words_are_behind_the_rings():
    assert (used_event_offset(8), avail_event_offset(8)) == (20, 68)


def test_control_queue_is_behind_those_in_use():
    assert (control_queue(1), control_queue(4)) == (2, 8)


@pytest.mark.parametrize("flag", FEATURE_FLAGS)
def test_each_flag_offers_its_features_and_no_others(flag):
    needed = {"segmentation": "checksum", "multiqueue": "control_queue", "rss": "control_queue"}
    base = NicConfig(**{needed[flag]: True}) if flag in needed else NicConfig()
    more = offered_features(replace(base, **{flag: True})) ^ offered_features(base)
    assert more == sum(1 << feature for feature in FEATURE_FLAGS[flag])


def test_flags_that_miss_what_they_need_are_refused():
    with pytest.raises(ValueError, match="rss needs control_queue"):
        NicConfig(rss=True)


def test_named_configurations_offer_checksums_beside_what_all_do():
    checksums = 1 << Feature.NET_CSUM | 1 << Feature.NET_GUEST_CSUM
    assert offered_features(config("tiny").nic) == BASE_FEATURES | checksums
    several = sum(1 << f for f in (Feature.NET_CTRL_VQ, Feature.NET_MQ, Feature.NET_RSS))
    assert offered_features(config("default").nic) & (several | checksums) == several | checksums
    assert not BASE_FEATURES >> Feature.RING_PACKED & 1

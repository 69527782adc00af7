"""W2: counted per key, and for everything."""

import pytest

from proxy.redis.protocol.barriers import Barriers


def test_a_key_is_barred_until_every_write_is_answered() -> None:
    barriers = Barriers()
    assert not barriers.bar([b"a"])
    barriers.up([b"a", b"b"])
    barriers.up([b"a"])
    assert barriers.bar([b"x", b"a"])
    assert not barriers.bar([b"x"])
    barriers.down([b"a"])
    assert barriers.bar([b"a"])
    barriers.down([b"a", b"b"])
    assert not barriers.bar([b"a", b"b"])
    assert len(barriers) == 0


def test_a_key_twice_in_one_write() -> None:
    barriers = Barriers()
    barriers.up([b"a", b"a"])
    barriers.down([b"a", b"a"])
    assert len(barriers) == 0


def test_a_flush_bars_every_key() -> None:
    barriers = Barriers()
    barriers.up_all()
    assert barriers.bar([b"any"])
    barriers.down_all()
    assert not barriers.bar([b"any"])


def test_an_answer_without_a_write_is_our_bug() -> None:
    barriers = Barriers()
    with pytest.raises(KeyError):
        barriers.down([b"a"])
    with pytest.raises(AssertionError):
        barriers.down_all()

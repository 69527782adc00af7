"""Sketches are bounded and find what is frequent; keys are masked for logs."""

import random

import pytest

from proxy.redis.protocol.insight import Bypassed, Insight, Sketch, masked, shapes


def test_exact_while_there_is_room() -> None:
    sketch = Sketch(4)
    for key in (b"a", b"b", b"a", b"c", b"a", b"b"):
        sketch.add(key)
    assert sketch.top(2) == [(b"a", 3), (b"b", 2)]
    assert sketch.error == 0


def test_bounded_and_right_about_the_frequent() -> None:
    rng = random.Random(3)
    sketch = Sketch(32)
    total, hot = 0, 0
    for i in range(50_000):
        key = b"hot" if rng.random() < 0.1 else b"cold:%d" % i
        hot += key == b"hot"
        total += 1
        sketch.add(key)
        assert len(sketch) <= 64
    name, count = sketch.top(1)[0]
    assert name == b"hot"
    assert hot - sketch.error <= count <= hot
    assert sketch.error <= total / 32


def test_equal_counts_come_in_the_order_of_the_keys() -> None:
    sketch = Sketch(8)
    for key in (b"c", b"a", b"b"):
        sketch.add(key)
    assert [key for key, _ in sketch.top(3)] == [b"a", b"b", b"c"]


def test_a_report_tells_hot_repeated_missing_and_refilled_keys() -> None:
    insight = Insight()
    insight.filled(b"k", negative=False)
    insight.hit_many(b"k", 13, negative=False)
    insight.repeat_many(b"k", 12)
    insight.filled(b"none", negative=True)
    insight.filled(b"none", negative=True)
    insight.hit_many(b"none", 5, negative=True)
    insight.bypass(Bypassed.BARRIER)
    insight.bypass(Bypassed.BARRIER)
    report = insight.report(hits=18, negative_hits=5)
    assert report.top_keys == [(b"k", 14), (b"none", 7)]
    assert report.repeated_keys == [(b"k", 12)]
    assert report.saved_repeats == 12
    assert report.missing_keys == [(b"none", 7)]
    assert report.refilled_keys == [(b"none", 2)]
    assert report.bypassed == {"barrier": 2}
    assert (report.hits, report.negative_hits) == (18, 5)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        (b"user:42:profile", "user:*:profile"),
        (b"user_gym_membership:17:3", "user_gym_membership:*:*"),
        (b"session:5f2b6c1e-88aa-4bfe-9b1a-001122334455", "session:*"),
        (b"mail:ann@example.org", "mail:*"),
        (b"token:deadbeefdeadbeef00", "token:*"),
        (b"jwt:abcdefghijklmnopqrstuvwxyzabcdefgh", "jwt:*"),
        (b"user:ann:profile", "user:*:*"),
        (b"chat:ann:bob", "chat:*:*"),
        (b"user:ann", "user:*"),
        (b"shop:user:42:cart", "shop:*:*:cart"),
        (b"{user:ann}:cart", "{user:*}:*"),
        (b"user_42", "user_*"),
        (b"ann", "*"),
        (b"key of ann", "key * *"),
        (b"\xff\x00", "*\x00"),
        (b"", ""),
    ],
)
def test_masked(key: bytes, shape: str) -> None:
    assert masked(key) == shape


def test_masked_is_bounded() -> None:
    assert len(masked(b"a b" * 1000)) <= 256


def test_keys_of_one_shape_are_summed_up() -> None:
    keys = [(b"user:1", 3), (b"plain:x", 4), (b"user:ann", 2)]
    assert shapes(keys) == [("user:*", 5), ("plain:*", 4)]

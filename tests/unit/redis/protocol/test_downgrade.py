"""RESP3 frames as RESP2 says them; the looks into frames that a fill needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import PeerProtocolError
from proxy.redis.protocol.cacheable import request
from proxy.redis.protocol.downgrade import bulk, elements, frame_end, integer, to_resp2
from tests.wire_redis import reply_end


@pytest.mark.parametrize(
    ("line", "resp3", "resp2"),
    [
        ("GET k", b"$5\r\nhello\r\n", b"$5\r\nhello\r\n"),
        ("GET k", b"_\r\n", b"$-1\r\n"),
        ("GET k", b"-WRONGTYPE x\r\n", b"-WRONGTYPE x\r\n"),
        ("TYPE k", b"+none\r\n", b"+none\r\n"),
        ("EXISTS k", b":1\r\n", b":1\r\n"),
        ("HEXISTS k f", b"#t\r\n", b":1\r\n"),
        ("HEXISTS k f", b"#f\r\n", b":0\r\n"),
        ("HGETALL k", b"%0\r\n", b"*0\r\n"),
        ("HGETALL k", b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n", b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n"),
        ("SMEMBERS k", b"~1\r\n$1\r\na\r\n", b"*1\r\n$1\r\na\r\n"),
        ("HMGET k a b", b"*2\r\n_\r\n$1\r\nv\r\n", b"*2\r\n$-1\r\n$1\r\nv\r\n"),
        ("ZSCORE k a", b",2.5\r\n", b"$3\r\n2.5\r\n"),
        ("ZSCORE k a", b",inf\r\n", b"$3\r\ninf\r\n"),
        ("ZMSCORE k a b", b"*2\r\n,1\r\n_\r\n", b"*2\r\n$1\r\n1\r\n$-1\r\n"),
        (
            "ZRANGE k 0 -1 WITHSCORES",
            b"*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2\r\n",
            b"*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n",
        ),
        ("ZRANGE k 0 -1", b"*1\r\n$1\r\na\r\n", b"*1\r\n$1\r\na\r\n"),
        ("ZRANGE k 0 -1", b"*0\r\n", b"*0\r\n"),
        ("ZRANK k a", b"_\r\n", b"$-1\r\n"),
        ("ZRANK k a WITHSCORE", b"_\r\n", b"*-1\r\n"),
        ("ZREVRANK k a WITHSCORE", b"*2\r\n:0\r\n,1\r\n", b"*2\r\n:0\r\n$1\r\n1\r\n"),
        (
            "XRANGE k - +",
            b"*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
            b"*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
        ),
        ("GET k", b"=8\r\ntxt:text\r\n", b"$4\r\ntext\r\n"),
        ("GET k", b"(123\r\n", b"$3\r\n123\r\n"),
        ("GET k", b"!5\r\nERR x\r\n", b"-ERR x\r\n"),
    ],
)
def test_to_resp2(line: str, resp3: bytes, resp2: bytes) -> None:
    words = line.encode().split()
    assert to_resp2(words[0], request(words), resp3) == resp2


BROKEN = [
    b"*1\r\n",
    b"*x\r\n",
    b"*-1\r\n",
    b"*1\r\n$5\r\nab\r\n",
    b"*1\r\n:1",
    b"*1\r\n?1\r\n",
    b"%1\r\n:1\r\n",
    b"~1\r\n:1\r\n:2\r\n",
    b"*1\r\n" * 20 + b":1\r\n",
    b"|1\r\n+a\r\n+b\r\n:1\r\n",
    b"",
]


@pytest.mark.parametrize("frame", BROKEN)
def test_broken_frames_are_the_peers_fault(frame: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        to_resp2(b"HMGET", b"", b"*1\r\n" + frame)
    with pytest.raises(PeerProtocolError):
        to_resp2(b"ZRANGE", b"", b"*1\r\n" + frame)
    with pytest.raises(PeerProtocolError):
        elements(b"*1\r\n" + frame)


def test_bytes_after_the_frame_are_the_peers_fault() -> None:
    for use in (elements, lambda frame: to_resp2(b"HMGET", b"", frame)):
        with pytest.raises(PeerProtocolError):
            use(b"*1\r\n:1\r\n:2\r\n")


def test_elements() -> None:
    assert elements(b"*2\r\n:1\r\n*1\r\n_\r\n") == [b":1\r\n", b"*1\r\n_\r\n"]
    assert elements(b"%1\r\n:1\r\n:2\r\n") == [b":1\r\n", b":2\r\n"]
    assert elements(b"*0\r\n") == []
    with pytest.raises(PeerProtocolError):
        elements(b":1\r\n")


def test_integer() -> None:
    assert integer(b":-2\r\n") == -2
    assert integer(b"-ERR x\r\n") is None
    with pytest.raises(PeerProtocolError):
        integer(b":x\r\n")


def test_bulk() -> None:
    assert bulk(b"$2\r\n\r\n\r\n") == b"\r\n"
    assert bulk(b"+text\r\n") == b"text"
    with pytest.raises(PeerProtocolError):
        bulk(b":1\r\n")


SCALARS = st.one_of(
    st.integers().map(lambda n: b":%d\r\n" % n),
    st.binary(max_size=9).map(lambda b: b"$%d\r\n%b\r\n" % (len(b), b)),
    st.just(b"_\r\n"),
    st.just(b"#t\r\n"),
    st.floats(allow_nan=False).map(lambda f: b",%s\r\n" % repr(f).encode()),
)
FRAMES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(
        lambda parts: b"*%d\r\n%b" % (len(parts), b"".join(parts))
    ),
    max_leaves=12,
)


@given(FRAMES.filter(lambda frame: frame.count(b"*") < 7))
def test_any_frame_becomes_one_resp2_frame(frame: bytes) -> None:
    assert frame_end(frame, 0, 0) == len(frame)
    out = to_resp2(b"HMGET", b"", frame)
    assert out[:1] in b"*$:+-"
    assert reply_end(out) == len(out)


@given(st.binary(max_size=40), st.sampled_from([b"HMGET", b"ZRANGE", b"GET"]))
def test_any_bytes_give_a_reply_or_the_peers_fault(data: bytes, name: bytes) -> None:
    try:
        to_resp2(name, b"", b"*" + data)
    except PeerProtocolError:
        return

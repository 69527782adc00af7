"""What may be cached, under which name, and what a missing key looks like."""

import pytest

from proxy.redis.protocol.cacheable import (
    COMMANDS,
    HashRead,
    KeyFilter,
    assembled,
    locks_or_counts,
    piece_name,
    plan,
    request,
)


def argv(line: str) -> list[bytes]:
    return line.encode().split()


def test_a_request_is_an_array_of_bulk_strings() -> None:
    assert request([b"GET", b"", b"\r\n"]) == b"*3\r\n$3\r\nGET\r\n$0\r\n\r\n$2\r\n\r\n\r\n"


@pytest.mark.parametrize(
    "line",
    [
        "TTL k",
        "PTTL k",
        "OBJECT ENCODING k",
        "RANDOMKEY",
        "SRANDMEMBER k",
        "SCAN 0",
        "XPENDING k g",
        "XINFO STREAM k",
        "SORT_RO k BY w",
        "XREAD STREAMS k $",
        "EVAL s 1 k",
        "GETEX k",
        "GETDEL k",
        "GETSET k v",
        "SET k v",
        "TOUCH k",
        "DUMP k",
        "PFCOUNT k",
    ],
)
def test_never(line: str) -> None:
    assert plan(argv(line)) is None


@pytest.mark.parametrize(
    "line",
    ["", "GET", "GET a b", "MGET", "HGET h", "HMGET h", "LPOS l", "ZRANK z", "GETRANGE k 1"],
)
def test_a_call_that_cannot_be_valid_is_left_to_the_server(line: str) -> None:
    assert plan(argv(line)) is None


def test_the_name_in_any_case_has_one_canonical_request() -> None:
    plans = [plan(argv(f"{name} k")) for name in ("GET", "get", "GeT")]
    assert {found.canonical for found in plans if found} == {request([b"GET", b"k"])}


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("GET k", b"_\r\n"),
        ("STRLEN k", b":0\r\n"),
        ("GETRANGE k 0 1", b"$0\r\n\r\n"),
        ("TYPE k", b"+none\r\n"),
        ("BITPOS k 1", b":-1\r\n"),
        ("BITPOS k 0", b":0\r\n"),
        ("HMGET k a b", b"*2\r\n_\r\n_\r\n"),
        ("SMISMEMBER k a b c", b"*3\r\n:0\r\n:0\r\n:0\r\n"),
        ("HGETALL k", b"%0\r\n"),
        ("SMEMBERS k", b"~0\r\n"),
        ("LPOS k a", b"_\r\n"),
        ("LPOS k a RANK 1", b"_\r\n"),
        ("LPOS k a RANK 1 count 0", b"*0\r\n"),
        ("LPOS k COUNT", b"_\r\n"),
        ("ZRANGE k 0 -1", b"*0\r\n"),
    ],
)
def test_what_a_missing_key_answers(line: str, missing: bytes) -> None:
    found = plan(argv(line))
    assert found is not None
    assert found.missing == missing
    assert found.keys == (b"k",)
    assert found.pieces == ()


@pytest.mark.parametrize(
    ("line", "kind", "fields"),
    [
        ("HGET k a", HashRead.FIELDS, (b"a",)),
        ("HMGET k a b", HashRead.FIELDS, (b"a", b"b")),
        ("HEXISTS k a", HashRead.FIELDS, (b"a",)),
        ("HSTRLEN k a", HashRead.FIELDS, (b"a",)),
        ("HGETALL k", HashRead.WHOLE, ()),
        ("HLEN k", HashRead.WHOLE, ()),
        ("GET k", HashRead.NONE, ()),
    ],
)
def test_hash_reads(line: str, kind: HashRead, fields: tuple[bytes, ...]) -> None:
    found = plan(argv(line))
    assert found is not None
    assert (found.hash_read, found.fields) == (kind, fields)


def test_mget_is_made_of_gets() -> None:
    found = plan(argv("mget a b a"))
    assert found is not None
    assert found.keys == (b"a", b"b", b"a")
    assert found.pieces == tuple(request([b"GET", key]) for key in (b"a", b"b", b"a"))
    assert piece_name(found.name) == b"GET"


def test_exists_of_one_key_is_plain_and_of_several_made_of_pieces() -> None:
    one, two = plan(argv("EXISTS a")), plan(argv("EXISTS a b"))
    assert one is not None
    assert two is not None
    assert one.pieces == ()
    assert two.pieces[0] == one.canonical
    assert piece_name(two.name) == b"EXISTS"


def test_pieces_are_put_together() -> None:
    assert assembled(b"MGET", [b"_\r\n", b"$1\r\nx\r\n"]) == b"*2\r\n_\r\n$1\r\nx\r\n"
    assert assembled(b"EXISTS", [b":1\r\n", b":0\r\n", b":1\r\n"]) == b":2\r\n"


def test_every_rule_makes_a_plan() -> None:
    for name in COMMANDS:
        assert any(plan([name, *[b"1"] * count]) for count in (1, 2, 3)), name


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("SET k v", False),
        ("SET k v EX 10", False),
        ("set k v ex 10 nx", True),
        ("SET k v GET", True),
        ("INCR k", True),
        ("setnx k v", True),
        ("HSET h f v", False),
    ],
)
def test_locks_and_counters(line: str, expected: bool) -> None:
    assert locks_or_counts(argv(line)) is expected


@pytest.mark.parametrize(
    ("glob", "key", "matches"),
    [
        (b"*", b"any\nthing\xff", True),
        (b"user:*", b"user:1", True),
        (b"user:*", b"x user:1", False),
        (b"h?llo", b"hello", True),
        (b"h?llo", b"hllo", False),
        (b"h[ae]llo", b"hallo", True),
        (b"h[ae]llo", b"hillo", False),
        (b"h[^e]llo", b"hallo", True),
        (b"h[^e]llo", b"hello", False),
        (b"h[a-c]llo", b"hbllo", True),
        (b"h[c-a]llo", b"hbllo", True),
        (b"h[a-c]llo", b"hdllo", False),
        (b"[\\]]x", b"]x", True),
        (b"a\\*b", b"a*b", True),
        (b"a\\*b", b"axb", False),
        (b"a.b", b"axb", False),
        (b"[]x", b"x", False),
        (b"[^]x", b"ax", True),
        (b"[ab", b"a", True),
        (b"tail\\", b"tail\\", True),
        (b"[a-", b"-", True),
    ],
)
def test_globs(glob: bytes, key: bytes, matches: bool) -> None:
    assert KeyFilter([glob], []).wants(key) is matches


def test_exclude_wins_over_include() -> None:
    wants = KeyFilter([b"user:*", b"team:*"], [b"*:secret", b"tmp:*"]).wants
    assert wants(b"user:1")
    assert wants(b"team:1")
    assert not wants(b"user:secret")
    assert not wants(b"tmp:1")
    assert not wants(b"other")


def test_no_include_at_all_wants_nothing() -> None:
    assert not KeyFilter([], []).wants(b"k")

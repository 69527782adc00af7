"""The command table: routes, effects, keys; from the fallback and from a server's reply."""

import pytest

from proxy.redis.protocol import commands as c
from proxy.redis.protocol.command_table import fallback_table
from proxy.redis.protocol.commands import Command, CommandTable, KeySpec, table_from_reply

TABLE = fallback_table()


def words(text: str) -> list[bytes]:
    return text.encode().split()


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("GET", c.DATA | c.CACHEABLE), ("get", c.DATA | c.CACHEABLE), ("gEt", c.DATA | c.CACHEABLE),
        ("SET", c.DATA | c.WRITES | c.ONE_KEY), ("DEL", c.DATA | c.WRITES), ("PING", c.DATA),
        ("MOVE", c.DATA | c.WRITES), ("KEYS", c.BULK), ("EVAL", c.BULK | c.OPAQUE),
        ("SORT", c.BULK | c.WRITES), ("FLUSHALL", c.BULK | c.FLUSHES), ("HELLO", c.SESSION),
        ("CLIENT", c.SESSION), ("MULTI", c.EXCLUSIVE), ("BLPOP", c.EXCLUSIVE | c.WRITES),
        ("XREAD", c.MAYBE_BLOCKING), ("SUBSCRIBE", c.EXCLUSIVE), ("WAIT", c.EXCLUSIVE),
        ("PSYNC", c.REFUSED), ("POST", c.HTTP), ("host:", c.HTTP), ("EXEC", c.DATA | c.OPAQUE),
        ("XGROUP", c.DATA | c.WRITES), ("MIGRATE", c.BULK | c.OPAQUE),
        ("NOSUCH", c.EXCLUSIVE | c.OPAQUE), ("X" * 40, c.BULK),
    ],
)  # fmt: skip
def test_routes(name: str, route: int) -> None:
    assert TABLE.route(name.encode()) == route


def test_a_complete_table_knows_that_unknown_names_are_no_commands() -> None:
    table = CommandTable(TABLE.by_name.values(), complete=True)
    assert table.route(b"NOSUCH") == c.BULK | c.OPAQUE
    assert table.find(b"nosuch") is None


@pytest.mark.parametrize(
    ("call", "keys"),
    [
        ("SET a b", "a"), ("MSET a 1 b 2 c 3", "a b c"), ("DEL a b", "a b"), ("GET a", ""),
        ("ZUNIONSTORE d 2 x y", "d"), ("GEORADIUS k 1 1 1 km STORE z", "z"),
        ("GEORADIUS k 1 1 1 km", ""), ("XGROUP CREATE st g $", "st"), ("SORT k STORE b", "b"),
        ("SORT k", ""), ("RENAME a b", "a b"), ("BLMOVE a b LEFT RIGHT 0", "a b"),
        ("BLPOP a b 0", "a b"), ("LMPOP 2 a b LEFT", "a b"), ("EVAL x 2 a b arg", "a b"),
        ("EVAL x 0", ""), ("EVAL x many a", ""), ("EVAL x", ""), ("BITOP AND d a b", "d"),
        ("COPY a b", "b"), ("SET", ""), ("XREADGROUP GROUP g c STREAMS a b > >", ""),
        ("SMOVE a b x", "a b"),
    ],
)  # fmt: skip
def test_keys_of_writes(call: str, keys: str) -> None:
    args = words(call)
    command = TABLE.find(args[0], args[1] if len(args) > 1 else b"")
    assert command is not None
    assert command.write_keys(args) == words(keys)


def test_keys_nobody_can_tell() -> None:
    for call in ("MIGRATE h 1 a 0 1", "FUNCTION LOAD x"):
        args = words(call)
        command = TABLE.find(args[0], args[1])
        assert command is not None
        assert command.write_keys(args) is None
    assert KeySpec(True, -2, b"KEYS").find(words("X a b")) is None


def test_key_ranges() -> None:
    args = words("X STREAMS a b c 1 2 3")
    assert KeySpec(False, 1, b"STREAMS", last=-1, limit=2).find(args) == words("a b c")
    assert KeySpec(False, 1, b"NONE").find(args) == []
    assert KeySpec(False, 9).find(args) == []


@pytest.mark.parametrize(
    ("name", "second", "expected"),
    [(b"GET", b"", True), (b"incr", b"", False), (b"PING", b"", True), (b"EVAL", b"", False),
     (b"EVAL_RO", b"", True), (b"XREADGROUP", b"", False), (b"PUBLISH", b"", False),
     (b"XINFO", b"STREAM", True), (b"CONFIG", b"SET", False), (b"NOSUCH", b"", False)],
)  # fmt: skip
def test_what_may_be_asked_twice(name: bytes, second: bytes, expected: bool) -> None:
    assert TABLE.repeatable(name, second) is expected


def spec(flags: list[bytes], begin: list[object], find: list[object]) -> list[object]:
    return [b"flags", flags, b"begin_search", begin, b"find_keys", find]


def test_a_modern_reply() -> None:
    reply = [
        [b"get", 2, [b"readonly"], 1, 1, 1, [], [], [
            spec([b"RO"], [b"type", b"index", b"spec", [b"index", 1]],
                 [b"type", b"range", b"spec", [b"lastkey", 0, b"keystep", 1, b"limit", 0]])], []],
        [b"eval", -3, [b"noscript"], 0, 0, 0, [], [], [
            spec([b"RW"], [b"type", b"index", b"spec", [b"index", 2]],
                 [b"type", b"keynum", b"spec", [b"keynumidx", 0, b"firstkey", 1, b"keystep", 1]])],
         []],
        [b"x", -2, [b"write"], 0, 0, 0, [], [], [
            spec([b"RW", b"incomplete"], [b"type", b"keyword", b"spec", [b"keyword", b"keys",
                                                                         b"startfrom", -2]],
                 [b"type", b"range", b"spec", []])], [[b"x|sub", 2, [b"admin"], 0, 0, 0, [], [],
                                                       [], []], b"odd"]],
        [7, 2, [], 0, 0, 0],
    ]  # fmt: skip
    table = table_from_reply(reply, TABLE)  # type: ignore[arg-type]
    assert table is not None
    assert table.complete
    assert set(table.by_name) == {b"GET", b"EVAL", b"X", b"X|SUB"}
    assert table.by_name[b"GET"].keys == (KeySpec(False, 1),)
    assert table.by_name[b"EVAL"].write_keys(words("EVAL s 1 k")) == [b"k"]
    assert table.by_name[b"X"].write_keys(words("X a")) is None
    assert table.has(b"X|SUB")


def test_an_old_reply_borrows_key_specifications() -> None:
    reply = [
        [b"zunionstore", -4, [b"write", b"movablekeys"], 0, 0, 0],
        [b"mod.del", -2, [b"write"], 1, -1, 1],
        [b"mod.set", 3, [b"write"], 1, 1, 1],
        [b"mod.none", 1, [], 0, 0, 0],
        [b"mod.odd", 1, [], b"x", 0, 0],
    ]
    table = table_from_reply(reply, TABLE)  # type: ignore[arg-type]
    assert table is not None
    assert table.by_name[b"ZUNIONSTORE"].write_keys(words("ZUNIONSTORE d 1 a")) == [b"d"]
    assert table.by_name[b"MOD.DEL"].write_keys(words("MOD.DEL a b")) == [b"a", b"b"]
    assert table.by_name[b"MOD.SET"].write_keys(words("MOD.SET a b")) == [b"a"]
    assert table.by_name[b"MOD.NONE"].keys == table.by_name[b"MOD.ODD"].keys == ()


@pytest.mark.parametrize("reply", [None, [], b"x", [b"x"], [[b"get", 2]]])
def test_replies_that_make_no_sense(reply: object) -> None:
    assert table_from_reply(reply, TABLE) is None  # type: ignore[arg-type]


def test_an_unnamed_write_is_opaque() -> None:
    table = CommandTable([Command(b"MOD.W", -1, c.WRITE, ())], complete=True)
    assert table.route(b"mod.w") == c.DATA | c.OPAQUE

"""A transaction that died with its link is failed until the client ends it: as on the server.

The same messages go to a server in a failed transaction, and to the proxy in one whose link was cut
and whose loss the client has been told. What comes back is the same but for the words of errors.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.demo.cutter import Cut, Direction
from proxy.demo.servers import PostgresServer
from tests import wire
from tests.faults.cut_bench import CutBench, Wound, gone
from tests.wire import FLUSH, SYNC, PgWire

pytestmark = pytest.mark.servers

NOW = Wound(Direction.TO_CLIENT, 0, Cut.RST)
NAMED = wire.parse("select 1", name="before") + wire.parse("rollback", name="back") + SYNC


def q(sql: str) -> bytes:
    return wire.query(sql)


def exit_batch(sql: str, name: str = "") -> bytes:
    """Parse, Describe the statement, Bind, Describe the portal, Execute."""
    return (
        wire.parse(sql, name=name)
        + wire.describe("S", name)
        + wire.values(statement=name)
        + wire.describe("P")
        + wire.execute()
    )


AFTER = [q("show transaction_isolation"), q("show transaction_read_only"), q("select 7")]

SCRIPTS: dict[str, list[bytes]] = {
    "rollback": [q("rollback"), *AFTER],
    "commit is a rollback": [q("commit"), *AFTER],
    "prepare transaction is a rollback": [q("prepare transaction 'x'"), *AFTER],
    "empty": [q(""), q(";"), q("rollback"), *AFTER],
    "refused": [q("select 1"), q("select 1; rollback"), q("begin"), q("rollback"), *AFTER],
    "rollback and chain": [q("rollback and chain"), *AFTER, q("commit"), *AFTER],
    "commit and chain": [q("commit and chain"), *AFTER, q("commit"), *AFTER],
    "chain twice": [q("rollback and chain"), q("rollback and chain"), *AFTER, q("abort"), *AFTER],
    "rollback and more": [q("rollback; select 5"), *AFTER],
    "rollback and a transaction": [
        q("rollback; begin isolation level repeatable read; select 5"),
        *AFTER,
        q("commit"),
        *AFTER,
    ],
    "commit and more": [q("commit; select 5"), *AFTER],
    "end and more": [q("end; begin read only; select 5"), *AFTER, q("end"), *AFTER],
    "chain and more": [q("rollback and chain; select 5"), *AFTER, q("commit; select 6"), *AFTER],
    "prepare transaction and more": [q("prepare transaction 'x'; select 5"), *AFTER],
    "rollback and nonsense": [q("rollback; nonsense"), q("select 1"), q("rollback"), *AFTER],
    "batch": [exit_batch("rollback") + SYNC, *AFTER],
    "batch commits": [exit_batch("commit") + SYNC, *AFTER],
    "batch chains": [exit_batch("rollback and chain") + SYNC, *AFTER, q("commit"), *AFTER],
    "batch goes on": [exit_batch("rollback") + wire.run("select 5") + SYNC, *AFTER],
    "batch commits and goes on": [exit_batch("commit") + wire.run("select 5") + SYNC, *AFTER],
    "batch chains and goes on": [
        exit_batch("commit and chain") + wire.run("select 5") + SYNC,
        *AFTER,
        exit_batch("rollback") + SYNC,
        *AFTER,
    ],
    "batch ended by a query": [exit_batch("rollback") + q("select 5"), *AFTER],
    "batch refused": [wire.run("select 1") + SYNC, exit_batch("rollback") + SYNC, *AFTER],
    "batch of nothing": [
        wire.parse("") + wire.describe("S") + SYNC,
        SYNC,
        wire.close("S", "before") + wire.close("P", "no") + SYNC,
        q("rollback"),
        wire.values(statement="before") + wire.execute() + SYNC,
        *AFTER,
    ],
    "statements made in it": [
        wire.parse("rollback", name="made") + wire.describe("S", "made") + SYNC,
        wire.values(statement="made") + wire.execute() + SYNC,
        wire.values(statement="made") + wire.execute() + SYNC,
        *AFTER,
    ],
    "statements not made in it": [
        wire.parse("select 3", name="unmade") + SYNC,
        q("rollback"),
        wire.values(statement="unmade") + wire.execute() + SYNC,
        wire.parse("select 4", name="unmade") + wire.values(statement="unmade") + SYNC,
        *AFTER,
    ],
    "the unnamed statement": [
        wire.parse("rollback") + SYNC,
        wire.values() + wire.execute() + SYNC,
        wire.values() + SYNC,
        wire.parse("rollback") + SYNC,
        q("select 1"),
        wire.values() + SYNC,
        *AFTER,
    ],
    "a refused Parse drops the unnamed statement": [
        wire.parse("rollback") + SYNC,
        wire.parse("select 1") + SYNC,
        wire.values() + wire.execute() + SYNC,
        q("rollback"),
        *AFTER,
    ],
    "a name that is taken": [
        wire.parse("rollback", name="before") + SYNC,
        wire.close("S", "before") + wire.parse("rollback", name="before") + SYNC,
        wire.values(statement="before") + wire.execute() + SYNC,
        *AFTER,
    ],
    "statements from before": [
        wire.values(statement="before") + wire.execute() + SYNC,
        wire.describe("S", "before") + SYNC,
        wire.values(statement="back") + wire.execute() + SYNC,
        wire.values(statement="before") + wire.execute() + SYNC,
        *AFTER,
    ],
    "closed behind the rollback": [
        wire.values(statement="back") + wire.execute() + wire.close("S", "before") + SYNC,
        wire.values(statement="before") + wire.execute() + SYNC,
        *AFTER,
    ],
    "pipelined": [
        wire.run("select 1")
        + SYNC
        + wire.parse("rollback", name="p")
        + SYNC
        + wire.values(statement="p")
        + wire.execute()
        + SYNC
        + wire.run("select 9")
        + SYNC
        + wire.values(statement="p")
        + SYNC,
        *AFTER,
    ],
    "flush": [
        wire.parse("rollback", name="f") + wire.describe("S", "f") + FLUSH,
        wire.values(statement="f") + wire.execute() + FLUSH,
        SYNC,
        *AFTER,
    ],
    "flush refused": [wire.parse("select 1", name="f") + FLUSH, SYNC, q("rollback"), *AFTER],
    "parameters": [wire.parse("rollback") + wire.values("1") + SYNC, q("rollback"), *AFTER],
    "function call": [wire.function_call(1598, []), q("rollback"), *AFTER],
    "savepoint commands": [q("savepoint s"), q("release s"), q("rollback"), *AFTER],
    "two-phase commands": [q("rollback prepared 'x'"), q("commit prepared 'x'"), q("rollback")],
}
MODES = [
    "begin",
    "begin transaction isolation level serializable, read only",
    "start transaction isolation level repeatable read",
]


def syncs(data: bytes) -> int:
    """How many ReadyForQuery, or pauses at a Flush, the messages ask for."""
    count = at = 0
    while at < len(data):
        count += data[at : at + 1] in (b"Q", b"S", b"F", b"H")
        at += int.from_bytes(data[at + 1 : at + 5]) + 1
    return count


def told(client: PgWire, data: bytes) -> list[Any]:
    """What a client sees of the answer, but for the words of errors and notices."""
    client.send(data)
    found: list[Any] = []
    if data[-5:-4] == b"H":
        wanted = {b"f": b"ntE", b"C": b"CE"}
        ends = wanted[b"f"] if b"rollback\0" in data or b"select" in data else wanted[b"C"]
        while True:
            raw = client.read_message()
            found.append(shown(raw))
            if raw[:1] in [ends[i : i + 1] for i in range(len(ends))] and raw[:1] != b"t":
                return found
    return [shown(raw) for raw in client.until_ready(syncs(data))]


def shown(raw: bytes) -> Any:
    if raw[:1] in (b"E", b"N"):
        fields = wire.error_fields(raw)
        return raw[:1], fields["S"], fields["C"]
    return raw


@pytest.fixture(scope="module")
def bench(postgres: PostgresServer) -> Iterator[CutBench]:
    with CutBench(postgres) as made:
        yield made


def proxied(bench: CutBench, modes: str) -> PgWire:
    """A session that has been told that its transaction died."""
    bench.call(lambda _: gone(bench))
    client = PgWire.session(("127.0.0.1", bench.proxy_port))
    enter(client, modes)
    cut(bench)
    assert wire.sqlstate(client.query("select 1")) == "40001"
    return client


def enter(client: PgWire, modes: str) -> None:
    client.send(NAMED)
    client.until_ready()
    client.query(modes)
    client.query("select count(*) from pg_class")


def cut(bench: CutBench) -> None:
    bench.arm(NOW)
    wait(bench, lambda session: session.link is None)


@pytest.mark.parametrize("name", SCRIPTS)
def test_as_on_the_server(bench: CutBench, postgres: PostgresServer, name: str) -> None:
    modes = MODES[len(name) % len(MODES)]
    with PgWire.session(("127.0.0.1", postgres.port)) as direct:
        enter(direct, modes)
        direct.query("select 1/0")
        wanted = [told(direct, data) for data in SCRIPTS[name]]
    with proxied(bench, modes) as client:
        for number, data in enumerate(SCRIPTS[name]):
            assert told(client, data) == wanted[number], (number, data)


# ---- the client does not know yet


@pytest.fixture
def lost(bench: CutBench) -> Iterator[PgWire]:
    """A session in a serializable transaction whose link is cut, untold."""
    bench.call(lambda _: gone(bench))
    with PgWire.session(("127.0.0.1", bench.proxy_port)) as client:
        enter(client, "begin isolation level serializable, read only")
        cut(bench)
        yield client


def outcome(answer: list[bytes]) -> tuple[str | None, list[str], bytes]:
    return wire.sqlstate(answer), wire.tags(answer), answer[-1][5:]


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("rollback", (None, ["ROLLBACK"], b"I")),
        ("commit", ("40001", [], b"I")),
        ("prepare transaction 'x'", ("40001", [], b"I")),
        ("rollback and chain", (None, ["ROLLBACK"], b"T")),
        ("commit and chain", ("40001", [], b"E")),
        ("rollback to s", ("40001", [], b"E")),
        ("rollback to s; select 1", ("40001", [], b"E")),
        ("rollback; select 1", (None, ["ROLLBACK", "SELECT 1"], b"I")),
        ("commit; select 1", ("40001", [], b"I")),
        ("select 1; rollback", ("40001", [], b"E")),
        ("", ("40001", [], b"E")),
    ],
)
def test_the_first_unit_hears_of_the_loss_unless_it_rolls_back(
    lost: PgWire, sql: str, wanted: tuple[str | None, list[str], bytes]
) -> None:
    assert outcome(lost.query(sql)) == wanted
    if wanted[2] == b"E":
        assert outcome(lost.query("select 1")) == ("25P02", [], b"E")
    lost.query("rollback")
    assert outcome(lost.query("select 1")) == (None, ["SELECT 1"], b"I")


def test_a_chained_transaction_has_the_kind_of_the_lost_one(bench: CutBench, lost: PgWire) -> None:
    assert outcome(lost.query("rollback and chain"))[2] == b"T"
    assert lost.value("show transaction_isolation") == b"serializable"
    assert lost.value("show transaction_read_only") == b"on"
    cut(bench)
    assert outcome(lost.query("rollback and chain"))[2] == b"T"
    cut_again = bench.counters.losses
    assert lost.value("show transaction_isolation") == b"serializable"
    assert outcome(lost.query("commit")) == (None, ["COMMIT"], b"I")
    assert bench.counters.losses == cut_again


def test_a_chained_transaction_that_has_run_nothing_is_begun_again(
    bench: CutBench, lost: PgWire
) -> None:
    lost.query("rollback and chain")
    lost.query("set local work_mem = '7MB'")
    cut(bench)
    assert lost.value("show transaction_isolation") == b"serializable"
    assert lost.value("show work_mem") == b"7MB"
    assert outcome(lost.query("commit")) == (None, ["COMMIT"], b"I")


@pytest.mark.parametrize(
    "sql",
    [
        "set transaction_isolation = serializable",
        "select set_config('transaction_read_only', 'on', true)",
    ],
)
def test_a_kind_that_was_not_read_is_not_chained(bench: CutBench, sql: str) -> None:
    bench.call(lambda _: gone(bench))
    with PgWire.session(("127.0.0.1", bench.proxy_port)) as client:
        client.query("begin")
        client.query(sql)
        client.query("select count(*) from pg_class")
        cut(bench)
        assert outcome(client.query("rollback and chain")) == ("40001", [], b"E")
        assert outcome(client.query("commit and chain; select 1")) == ("40001", [], b"E")
        assert outcome(client.query("rollback; select 1"))[1:] == (["ROLLBACK", "SELECT 1"], b"I")


def test_a_batch_that_rolls_back_and_goes_on(lost: PgWire) -> None:
    lost.send(exit_batch("rollback") + wire.run("select 5") + SYNC)
    assert outcome(lost.until_ready()) == (None, ["ROLLBACK", "SELECT 1"], b"I")


def test_a_batch_that_commits_hears_of_the_loss(lost: PgWire) -> None:
    lost.send(exit_batch("commit") + wire.run("select 5") + SYNC)
    answer = lost.until_ready()
    assert wire.kinds(answer) == "1tn2nEZ"
    assert outcome(answer) == ("40001", [], b"I")


def test_a_name_that_is_taken_does_not_hide_the_loss(lost: PgWire) -> None:
    lost.send(wire.parse("rollback", name="before") + SYNC)
    assert outcome(lost.until_ready()) == ("40001", [], b"E")


# ---- with and without a link


def test_it_can_be_rolled_back_while_there_is_no_server(bench: CutBench, lost: PgWire) -> None:
    bench.call(lambda cutter: cutter.refuse())
    try:
        assert outcome(lost.query("select 1")) == ("40001", [], b"E")
        lost.send(wire.parse("rollback", name="made") + wire.values(statement="made") + SYNC)
        assert wire.kinds(lost.until_ready()) == "12Z"
        lost.send(wire.values(statement="made") + wire.execute() + SYNC)
        assert outcome(lost.until_ready()) == (None, ["ROLLBACK"], b"I")
    finally:
        bench.call(lambda cutter: cutter.accept())
    lost.send(wire.values(statement="made") + wire.execute() + SYNC)
    answer = lost.until_ready()
    assert outcome(answer) == (None, ["ROLLBACK"], b"I")  # with a warning: it is in none


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("rollback; select 5", (None, ["ROLLBACK", "SELECT 1"], b"I")),
        ("rollback and chain", (None, ["ROLLBACK"], b"T")),
    ],
)
def test_the_link_is_there_already(
    bench: CutBench, lost: PgWire, sql: str, wanted: tuple[Any, ...], dies: bool
) -> None:
    """A cancelled wait ended in a link, and the transaction is not on it."""
    assert outcome(lost.query("select 1")) == ("40001", [], b"E")
    bench.call(lambda cutter: cutter.refuse())
    lost.send(wire.query("rollback; select 6"))
    wait(bench, lambda session: session._attaching is not None)
    bench.ask(lambda route: next(iter(route.sessions)).cancel())
    assert outcome(lost.until_ready()) == ("57014", [], b"E")
    bench.call(lambda cutter: cutter.accept())
    wait(bench, lambda session: session.link is not None)
    if dies:
        bench.arm(Wound(Direction.TO_CLIENT, 3, Cut.RST))
    assert outcome(lost.query(sql)) == wanted
    assert lost.value("select 7") == b"7"
    lost.query("rollback")
    assert outcome(lost.query("select 1"))[2] == b"I"


def wait(bench: CutBench, condition: Any) -> None:
    until_s = time.monotonic() + 5
    while not bench.ask(lambda route: condition(next(iter(route.sessions)))):
        assert time.monotonic() < until_s
        time.sleep(0.001)


def test_a_transaction_that_cannot_be_begun_again_is_told_lost(
    bench: CutBench, postgres: PostgresServer
) -> None:
    """Its snapshot is gone with the transaction that exported it: no reason to end the session."""
    bench.call(lambda _: gone(bench))
    with (
        PgWire.session(("127.0.0.1", postgres.port)) as other,
        PgWire.session(("127.0.0.1", bench.proxy_port)) as client,
    ):
        other.query("begin isolation level repeatable read")
        snapshot = other.value("select pg_export_snapshot()") or b""
        client.query("set work_mem = '9MB'")
        client.query("begin isolation level repeatable read")
        client.query(f"set transaction snapshot '{snapshot.decode()}'")
        other.query("rollback")
        cut(bench)
        assert outcome(client.query("create table losses_never (i int)")) == ("40001", [], b"E")
        assert outcome(client.query("rollback")) == (None, ["ROLLBACK"], b"I")
        assert client.value("show work_mem") == b"9MB"
        assert not postgres.sql("select 1 from pg_class where relname = 'losses_never'")

"""Cut-everywhere: each exchange of the corpus, with its link dying at byte n.

The first link of the session dies after n bytes from the server, or to it, counted from when the
session has it; later links are whole. Whatever n is, the client gets the right answers, and where
those end, one of the errors of the reference (section 2.1). Nothing hangs, no message comes twice,
no effect happens twice, what was acknowledged is stored, and the session can be used afterwards.

By default n is sampled, message boundaries first. With BACKSTAY_FULL=1 it is every byte of an
exchange, as long as that has at most FULL_BYTES; then boundaries and samples.
"""

import os
import random
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from proxy.demo.cutter import Cut, Direction
from proxy.demo.servers import PostgresServer
from proxy.postgres.protocol.expected import RAW_BYTES_MIN
from tests import wire
from tests.corpus import schema
from tests.corpus.model import Closed, Exchange, Ready, Send, Until, masked, play
from tests.corpus.postgres import EXCHANGES
from tests.faults.cut_bench import CutBench, Wound, gone
from tests.wire import PgWire, WireClosed

if TYPE_CHECKING:
    import psycopg

FULL = bool(os.environ.get("BACKSTAY_FULL"))
pytestmark = [pytest.mark.servers, pytest.mark.timeout(900 if FULL else 60)]
FULL_BYTES = 3_000
SAMPLES = 40 if FULL else 3  # in each direction, where not every byte is tried
TERMINATES = 6 if FULL else 1
HANG_S = 5.0
OURS = "backstay"
END = "the end of it"

OUTCOMES = {"40001", "08007", "08006", "25P02"}
"""What may stand in the place of a right answer; FATAL 57P01 beside them."""
CONSEQUENCES = {
    "25P02",  # in the lost transaction
    "25P01",  # its COMMIT, SAVEPOINT, LOCK: no transaction any more
    "34000",  # its cursors
    "26000",  # statements whose PREPARE was told to have failed
    "3B001",  # its savepoints
    "42P01",  # its tables
    "42704",  # the transaction that its PREPARE TRANSACTION was to leave
}
"""What the server itself may say behind one of those."""


@dataclass
class Run:
    """What came of one play."""

    messages: list[bytes] = field(default_factory=list)
    closed: WireClosed | None = None
    stopped: bool = False
    """An error came where the exchange waits for something else: the rest was not played."""
    end: list[bytes] = field(default_factory=list)


@dataclass
class Tally:
    """Figures of all runs."""

    cuts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds_max: float = 0.0


TALLY = Tally()


@pytest.fixture(scope="module")
def corpus_connection(postgres: PostgresServer) -> "Iterator[psycopg.Connection[Any]]":
    with postgres.connect() as connection:
        schema.prepare(connection)
        yield connection


@pytest.fixture(scope="module")
def bench(postgres: PostgresServer) -> Iterator[CutBench]:
    with CutBench(postgres) as made:
        yield made
        print(f"\ncut everywhere: cuts {dict(TALLY.cuts)}, outcomes {dict(TALLY.outcomes)}")
        print(f"longest run {TALLY.seconds_max:.2f} s, counters {made.counters}")


def run(client: PgWire, subject: Exchange) -> Run:
    """Play it as a client would that reads what it gets, then see whether the session works."""
    found = Run()
    try:
        for step in subject.steps:
            if not _step(client, step, found.messages):
                found.stopped = True
                break
        if found.stopped or not subject.ends:
            if found.stopped:
                client.send(wire.SYNC)
            client.send(wire.query("ROLLBACK") + wire.query(f"SELECT '{END}'"))
            while not ((END.encode(),) in wire.rows(found.end) and found.end[-1][:1] == b"Z"):
                found.end.append(client.read_message())
    except WireClosed as closed:
        found.closed = closed
    except (BrokenPipeError, ConnectionResetError):
        _last_words(client, found)
    return found


def _last_words(client: PgWire, found: Run) -> None:
    """The write failed as the peer has closed: what it said before is there."""
    try:
        while True:
            found.messages.append(client.read_message())
    except WireClosed as closed:
        found.closed = closed


def _step(client: PgWire, step: object, messages: list[bytes]) -> bool:
    match step:
        case Send(data):
            client.send(data)
        case Ready(count):
            while count:
                messages.append(client.read_message())
                count -= messages[-1][:1] == b"Z"
        case Until(kind, count):
            while count:
                messages.append(client.read_message())
                count -= messages[-1][:1] == kind
                if messages[-1][:1] == b"E" and kind != b"E":
                    return False
        case Closed():
            while True:
                try:
                    messages.append(client.read_message())
                except WireClosed as closed:
                    if closed.rest or closed.reset:
                        raise
                    break
                if [raw[:1] for raw in messages[-2:]] == [b"E", b"Z"]:
                    return False  # no FATAL followed the error: the session has outlived it
                if messages[-1][:1] == b"E" and wire.error_fields(messages[-1]).get("F") == OURS:
                    return wire.error_fields(messages[-1])["V"] == "FATAL"
    return True


class Judge:
    """Compares what came with what is right."""

    def __init__(self, subject: Exchange, direct: list[bytes], before: Mapping[str, int]) -> None:
        self.subject = subject
        self.before = before  # what is in the ledger when it begins
        self.direct = _plain(direct, subject)
        self.parameters = _parameters(direct)

    def outcome(self, found: Run, effects: Mapping[str, int]) -> str:
        """A word for the tally. AssertionError for what must not be."""
        raw = found.messages + found.end if found.closed else found.messages
        raw = [message for message in raw if message[:1] != b"S"]  # may come at any time
        got = _plain(raw, self.subject)
        for key, times in effects.items():
            allowed = max(self.subject.effects.get(key, 0), self.before.get(key, 0))
            assert times <= allowed, f"{key} took effect {times} times"
        if got == self.direct and not found.closed:
            assert effects == self.subject.effects, f"said to be done: {effects}"
            told = _parameters(found.messages)
            assert self.parameters.items() <= told.items(), f"parameters {told}"
            self._usable(found)
            return "right"
        same = next(
            (n for n, pair in enumerate(zip(got, self.direct, strict=False)) if pair[0] != pair[1]),
            min(len(got), len(self.direct)),
        )
        if found.closed is not None:
            return self._ended(found.closed, raw[same:], same)
        self._usable(found)
        assert same < len(got), f"the answer lacks {len(self.direct) - same} messages"
        first = raw[same]
        wanted = self.direct[same : same + 1]
        if first[:1] == b"Z" and wanted and wire.error_fields(wanted[0]).get("V") == "FATAL":
            return "right, and outlives its end"
        assert first[:1] == b"E", f"message {same} is {first[:80]!r}, not {wanted!r}"
        fields = wire.error_fields(first)
        assert fields.get("F") == OURS, fields
        right = wire.sqlstate([self.direct[same]]) if same < len(self.direct) else None
        assert fields["C"] in OUTCOMES - {"25P02"} or fields["C"] == right, fields
        self._rest(raw[same + 1 :])
        self._told(raw, effects)
        return fields["C"]

    def _ended(self, closed: WireClosed, raw: list[bytes], same: int) -> str:
        """The proxy has ended the session."""
        if closed.rest:
            size = int.from_bytes(closed.rest[1:5])
            assert len(closed.rest) > 4, "half a message"
            assert size > RAW_BYTES_MIN, "half a message"
            return "half a long message"
        if same == len(self.direct) and not raw:
            return "right, closed"
        assert raw, f"closed without a word behind {same} messages"
        if self.subject.ends and raw[-1][:1] == b"Z":
            self._rest(raw)
            return "an error, then closed"
        fields = wire.error_fields(raw[-1])
        assert raw[-1][:1] == b"E", raw[-1]
        assert fields["V"] == "FATAL", fields
        assert fields["C"] == "57P01", fields
        assert fields["M"].startswith("terminating connection: link to the database"), fields
        self._rest(raw[:-1])
        return "FATAL 57P01"

    def _rest(self, raw: list[bytes]) -> None:
        """Behind the first error come further ones, consequences, or answers of a kind."""
        for message in raw:
            if message[:1] == b"E":
                fields = wire.error_fields(message)
                known = fields["C"] in OUTCOMES | CONSEQUENCES
                own = _plain([message], self.subject)[0] in self.direct
                assert known or own, f"behind the first error: {fields}"
                assert fields["V"] != "FATAL" or own, fields

    def _usable(self, found: Run) -> None:
        if self.subject.ends and not found.stopped:
            return
        assert found.end[-1] == wire.message(b"Z", b"I"), found.end
        assert wire.rows(found.end)[-1] == (END.encode(),), found.end

    def _told(self, raw: list[bytes], effects: Mapping[str, int]) -> None:
        """What the client was told of its transactions is what has come of them."""
        units = _units(self.subject)
        answers = _answers(raw)
        if units is None or len(units) != len(answers):
            return
        keys: set[str] = set()
        group: list[bytes] = []
        for unit, answer in zip(units, answers, strict=True):
            text = unit.decode("latin-1")
            keys |= {key for key in self.subject.effects if f"'{key}'" in text}
            group += answer
            if answer[-1][5:] == b"I" or "COMMIT" in wire.tags(answer):
                self._group(keys, group, effects)
                keys, group = set(), []

    def _group(self, keys: set[str], group: list[bytes], effects: Mapping[str, int]) -> None:
        errors = [wire.error_fields(raw) for raw in group if raw[:1] == b"E"]
        codes = {fields["C"] for fields in errors if fields.get("F") == OURS}
        there = {key for key in keys if effects.get(key)}
        single = all(self.subject.effects.get(key) == 1 for key in keys)
        if "08007" in codes or not keys or not single:
            return
        if "40001" in codes:
            assert not there, f"told 40001, and {there} took effect"
        elif not errors and "ROLLBACK" not in wire.tags(group):
            assert there == keys, f"acknowledged, and {keys - there} are not there"


def _plain(messages: list[bytes], subject: Exchange) -> list[bytes]:
    """Masked, and without ParameterStatus, which a server may send at any time."""
    return masked([message for message in messages if message[:1] != b"S"], subject)


def _parameters(messages: list[bytes]) -> dict[bytes, bytes]:
    """The last report of each parameter."""
    reports = [message[5:].split(b"\0") for message in messages if message[:1] == b"S"]
    pairs = [(name, value) for name, value, _ in reports]
    return dict(pairs)


def _units(subject: Exchange) -> list[bytes] | None:
    """What the client sends, by ReadyForQuery; None if that is not told by its messages alone."""
    if any(isinstance(step, (Until, Closed)) for step in subject.steps):
        return None
    data = b"".join(step.data for step in subject.steps if isinstance(step, Send))
    units, begin, at = [], 0, 0
    while at + 5 <= len(data):
        kind = data[at : at + 1]
        if kind in (b"d", b"c", b"f"):
            return None
        at += int.from_bytes(data[at + 1 : at + 5]) + 1
        if kind in (b"Q", b"S", b"F"):
            units.append(data[begin:at])
            begin = at
    return units


def _answers(raw: list[bytes]) -> list[list[bytes]]:
    answers: list[list[bytes]] = [[]]
    for message in raw:
        answers[-1].append(message)
        if message[:1] == b"Z":
            answers.append([])
    return answers[:-1]


def _places(total: int, sizes: list[int], rng: random.Random) -> list[int]:
    """Where to cut: every byte, or boundaries, a byte before and after them, and samples."""
    if FULL and total <= FULL_BYTES:
        return list(range(total + 1))
    ends, at = [0], 0
    for size in sizes:
        at += size
        ends += [at - 1, at, at + 1]
    ends = sorted({place for place in ends if 0 <= place <= total})
    if not FULL:
        ends = rng.sample(ends, min(len(ends), SAMPLES))
    elif len(ends) > FULL_BYTES:
        ends = rng.sample(ends, FULL_BYTES)
    inside = [rng.randint(0, total) for _ in range(max(1, SAMPLES // 3))]
    return sorted({*ends, *inside})


def _wounds(totals: tuple[int, int], direct: list[bytes], subject: Exchange) -> list[Wound]:
    rng = random.Random(zlib.crc32(subject.name.encode()))
    cuts = (Cut.RST, Cut.FIN)
    sent = [len(step.data) for step in subject.steps if isinstance(step, Send)]
    found = []
    for direction, total, sizes in (
        (Direction.TO_CLIENT, totals[0], [len(message) for message in direct]),
        (Direction.TO_SERVER, totals[1], sent),
    ):
        for number, place in enumerate(_places(total, sizes, rng)):
            found.append(Wound(direction, place, cuts[number % 2]))
    return found


def _session(bench: CutBench, subject: Exchange) -> PgWire:
    bench.call(lambda _: gone(bench))
    client = PgWire.session(("127.0.0.1", bench.proxy_port), **subject.parameters)
    client.deadline_s = HANG_S
    return client


def _one(bench: CutBench, subject: Exchange, wound: Wound | None) -> Run:
    with _session(bench, subject) as client:
        begun_s = time.monotonic()
        bench.arm(wound)
        try:
            return run(client, subject)
        finally:
            TALLY.seconds_max = max(TALLY.seconds_max, time.monotonic() - begun_s)


def _terminated(
    bench: CutBench, subject: Exchange, connection: "psycopg.Connection[Any]", after_s: float
) -> Run:
    """The server ends the session's backend some time after the exchange has begun."""
    with _session(bench, subject) as client:
        pid = bench.arm(None)
        end = threading.Timer(
            after_s, connection.execute, ("SELECT pg_terminate_backend(%s)", (pid,))
        )
        end.start()
        try:
            return run(client, subject)
        finally:
            end.join()


def _orphan_gone(bench: CutBench, connection: "psycopg.Connection[Any]", what: str) -> None:
    """Wait for the end of the backend whose link was cut: it may not even have read it all."""
    until_s = time.monotonic() + HANG_S
    question = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
    while connection.execute(question, (bench.pid,)).fetchone():
        if bench.alive() and not what.startswith("terminated"):
            return
        assert time.monotonic() < until_s, "the orphan lives on"
        time.sleep(0.001)


def _reset(connection: "psycopg.Connection[Any]", subject: Exchange) -> None:
    """As it was, also if the last run left a transaction prepared."""
    for (gid,) in connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
        connection.execute(f"ROLLBACK PREPARED '{gid}'")
    schema.reset(connection, subject)


@pytest.mark.parametrize("subject", EXCHANGES, ids=lambda subject: subject.name)
def test_cut_everywhere(
    subject: Exchange,
    postgres: PostgresServer,
    corpus_connection: "psycopg.Connection[Any]",
    bench: CutBench,
) -> None:
    _reset(corpus_connection, subject)
    with PgWire.session(("127.0.0.1", postgres.port), **subject.parameters) as client:
        direct = play(client, subject)
    _reset(corpus_connection, subject)
    judge = Judge(subject, direct, schema.effects(corpus_connection, subject))
    begun_s = time.monotonic()
    assert judge.outcome(_one(bench, subject, None), dict(subject.effects)).startswith("right")
    lasted_s = time.monotonic() - begun_s
    totals = bench.passed()
    failures = []

    def check(what: str, found: Run) -> None:
        bench.disarm()
        _orphan_gone(bench, corpus_connection, what)
        effects = schema.effects(corpus_connection, subject)
        try:
            TALLY.outcomes[judge.outcome(found, effects)] += 1
        except AssertionError as wrong:
            failures.append(f"{what}: {str(wrong).splitlines()[0]}")

    for wound in _wounds(totals, direct, subject):
        _reset(corpus_connection, subject)
        TALLY.cuts[f"{wound.direction.name} {wound.cut.name}"] += 1
        try:
            check(str(wound), _one(bench, subject, wound))
        except TimeoutError as hang:
            failures.append(f"{wound}: hangs: {hang}")
    rng = random.Random(subject.name)
    for _ in range(TERMINATES):
        _reset(corpus_connection, subject)
        TALLY.cuts["pg_terminate_backend"] += 1
        after_s = rng.uniform(0, lasted_s)
        try:
            check(
                f"terminated after {after_s:.4f} s",
                _terminated(bench, subject, corpus_connection, after_s),
            )
        except TimeoutError as hang:
            failures.append(f"terminated after {after_s:.4f} s: hangs: {hang}")
    assert not failures, "\n".join([f"{len(failures)} wrong outcomes", *failures[:20]])

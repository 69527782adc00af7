"""Random streams of client and server through the session's core: nothing lost, changed or twice.

Client: the pieces put together are the bytes put in, whatever they are cut into, and the units say
the same. Server: whole answers to random units, the proxy's own among them; the client gets the
bytes of its own units once and in order, however the stream is cut and whenever what is held is
released.
"""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.errors import PeerProtocolError
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol.classify import Classifier
from proxy.postgres.protocol.expected import Expected
from proxy.postgres.protocol.session_state import SessionState
from proxy.postgres.protocol.units import Gatherer, Kind, Piece, Unit
from proxy.postgres.protocol.whole import whole_unit
from tests.unit.postgres.protocol._sequences import (
    BOUND,
    CLOSED,
    COPY_DONE,
    COPY_IN,
    EMPTY,
    FLUSH,
    NO_DATA,
    PARSED,
    ROW,
    SYNC,
    TABLE,
    b,
    c,
    call,
    close,
    e,
    error,
    notice,
    p,
    q,
    status,
    z,
)

CLASSIFIER = Classifier()
TEXTS = (
    "SELECT 1", "", "INSERT INTO t VALUES (1)", "BEGIN", "COMMIT", "SET a.b = 1", "SELEC",
    "SELECT 1; SELECT 2", "SELECT set_config($1, $2, false)", "COPY t FROM STDIN", "VACUUM",
)  # fmt: skip
texts = st.sampled_from(TEXTS)
names = st.sampled_from(["", "s", "t", "a name of some length"])
values = st.sampled_from([b"", b"1", b"S\0\0\0\4", b"x" * 300])

# ---- the client ----

batch_messages = st.one_of(
    st.builds(p, texts, names),
    st.builds(b, names, names, values),
    st.builds(e, names),
    st.builds(close, names, st.sampled_from([b"S", b"P"])),
    st.builds(m.describe, st.sampled_from([b"S", b"P"]), names),
    st.builds(m.message, st.sampled_from([b"P", b"B", b"D", b"C", b"E"]), st.binary(max_size=9)),
)
client_messages = st.one_of(
    batch_messages,
    batch_messages,
    st.just(SYNC),
    st.just(FLUSH),
    st.builds(q, texts),
    st.builds(m.message, st.just(b"Q"), st.binary(max_size=9)),
    st.just(call()),
    st.builds(m.copy_data, values),
    st.sampled_from([COPY_DONE, m.copy_fail("no")]),
)
client_streams = st.lists(client_messages, max_size=20).map(b"".join)
cuts = st.lists(st.integers(1, 40), max_size=60)
ENDS = frozenset(b"QFS")


def parts_of(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in parts of these sizes, and the rest."""
    parts: list[bytes] = []
    at = 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return [part for part in (*parts, data[at:]) if part]


def said(pieces: list[Piece]) -> list[object]:
    """What the units of these pieces say."""
    units = list({id(unit): unit for unit, _, _ in pieces if unit is not None}.values())
    return [
        (
            unit.kind, unit.complete, unit.flushed, unit.scripts(), unit.parses, unit.uses,
            unit.closes, unit.executes, unit.watch, unit.mixed, unit.size, unit.class_of(),
            unit.pieces and unit.data, unit.owed, unit.bare,
        )
        for unit in units
    ]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(client_streams, cuts)
def test_pieces_are_the_bytes_put_in(data: bytes, sizes: list[int]) -> None:
    whole, chopped = Gatherer(CLASSIFIER), Gatherer(CLASSIFIER)
    data += SYNC
    wanted = whole.feed(data)
    pieces = [piece for part in parts_of(data, sizes) for piece in chopped.feed(part)]
    for some in (wanted, pieces):
        assert b"".join(part for _, part, _ in some) == data
        open_unit: Unit | None = None
        for unit, _, last in some:
            if unit is not None:
                assert open_unit is None or unit is open_unit  # one after the other
                open_unit = None if last else unit
    assert said(pieces) == said(wanted)
    assert chopped.names == whole.names
    assert chopped.portals == whole.portals
    assert not chopped.in_unit
    assert chopped.pending_bytes == 0


common = st.one_of(
    st.builds(q, texts),
    st.builds(lambda n, v: b(n, "", v) + e() + SYNC, names, values),
    st.builds(lambda n, v: b(n, "", v) + m.describe(b"P", "") + e() + SYNC, names, values),
    st.builds(lambda t, v: p(t) + b("", "", v) + m.describe(b"P", "") + e() + SYNC, texts, values),
    st.builds(lambda t, n, v: p(t, n) + b(n, "", v) + e() + SYNC, texts, names, values),
    st.builds(lambda t, o: p(t) + b("", o) + e(o) + SYNC, texts, names),
    st.builds(lambda t, n: p(t, n) + SYNC, texts, names),
)
# What a pipeline is made of, mostly plain, so that many are taken as a whole.
steps = st.one_of(
    st.builds(lambda n, v: b(n, "", v) + e(), names, values),
    st.builds(lambda n, v: b(n, "", v) + m.describe(b"P", "") + e(), names, values),
    st.builds(lambda t, n: p(t, n) + b(n) + e(), st.sampled_from(TEXTS[:3]), names),
    st.builds(lambda t, n: p(t, n) + b(n), texts, names),
)
common = st.one_of(common, st.lists(steps, max_size=4).map(lambda parts: b"".join(parts) + SYNC))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(common, common, client_messages), max_size=8))
def test_the_short_way_says_the_same(chunks: list[bytes]) -> None:
    slow, fast = Gatherer(CLASSIFIER), Gatherer(CLASSIFIER)
    for data in chunks:
        unit = whole_unit(fast, data)
        pieces: list[Piece] = fast.feed(data) if unit is None else [(unit, data, True)]
        assert said(pieces) == said(slow.feed(data))
        assert fast.names == slow.names
        assert fast.portals == slow.portals


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(b"QPB"))
def test_the_short_way_takes_no_nonsense(data: bytes, kind: int) -> None:
    slow, fast = Gatherer(CLASSIFIER), Gatherer(CLASSIFIER)
    chunk = bytes([kind]) + data
    unit = whole_unit(fast, chunk)
    if unit is not None:
        assert said([(unit, chunk, True)]) == said(slow.feed(chunk))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), cuts, client_streams)
def test_any_bytes_are_cut_or_refused(data: bytes, sizes: list[int], before: bytes) -> None:
    gatherer = Gatherer(CLASSIFIER)
    out = b""
    for part in parts_of(before + data, sizes):
        out += b"".join(piece for _, piece, _ in gatherer.feed(part))
        if gatherer.fault is not None or gatherer.terminated:
            break
    assert gatherer.fault is None or isinstance(gatherer.fault, PeerProtocolError)
    assert (before + data).startswith(out)


# ---- the server ----

NOTE = m.notification_response(7, "channel", "payload")
news = st.sampled_from(
    [b"", b"", b"", b"", notice(), NOTE, status("TimeZone", "UTC"), status("a.b", "1")]
)
row_lists = st.integers(0, 4).map(lambda count: TABLE + ROW * count + c(f"SELECT {count}"))
big_rows = st.just(TABLE + m.row([b"x" * 70_000]) + c("SELECT 1"))
results = st.one_of(
    row_lists, row_lists, big_rows, st.just(EMPTY), st.just(c("SET")), st.just(error())
)
statuses = st.sampled_from("IIITE")


@st.composite
def query_talks(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A Query and its answer."""
    answer = draw(news) + draw(results) + draw(news)
    return q(draw(texts.filter(lambda text: "COPY" not in text))), answer + z(draw(statuses))


@st.composite
def batch_talks(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A batch and its answer, which may break off with an error anywhere."""
    sent, answers = b"", []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from("PBEDC"))
        if kind == "P":
            sent, answer = sent + p(draw(texts), draw(names)), PARSED
        elif kind == "B":
            sent, answer = sent + b(draw(names)), BOUND
        elif kind == "E":
            sent, answer = sent + e(), draw(row_lists)
        elif kind == "D":
            sent, answer = sent + m.describe(b"P", ""), NO_DATA
        else:
            sent, answer = sent + close(draw(names)), CLOSED
        answers.append(draw(news) + answer)
    if draw(st.booleans()):
        answers = [*answers[: draw(st.integers(0, len(answers)))], error()]
    return sent + SYNC, b"".join(answers) + z(draw(statuses))


@st.composite
def copy_talks(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """COPY FROM STDIN, sent blindly, by Query or by a batch whose first Sync is swallowed."""
    rows = m.copy_data(draw(values)) + draw(st.sampled_from([COPY_DONE, m.copy_fail("no")]))
    end = draw(st.sampled_from([c("COPY 1"), error()])) + z()
    if draw(st.booleans()):
        return q("COPY t FROM STDIN") + rows, COPY_IN + end
    batch = p("COPY t FROM STDIN") + b() + e() + SYNC
    return batch + rows + SYNC, PARSED + BOUND + COPY_IN + end


talks = st.lists(
    st.tuples(st.one_of(query_talks(), batch_talks(), copy_talks()), st.booleans()), max_size=6
)


class Session:
    """The core, with all units sent at once."""

    def __init__(self, drawn: list[tuple[tuple[bytes, bytes], bool]]) -> None:
        self.gatherer = Gatherer(CLASSIFIER)
        self.state = SessionState()
        self.expected = Expected(self.state, self.gatherer)
        for (sent, answer), ours in drawn:
            self._send(sent, ours and COPY_IN not in answer)

    def _send(self, sent: bytes, ours: bool) -> None:
        gatherer = Gatherer(CLASSIFIER) if ours else self.gatherer
        for unit, part, _ in gatherer.feed(sent):
            if unit is not None:
                unit.skip = ours
                self.expected.push(unit, not ours)
            elif part[:1] in (b"c", b"f"):
                self.expected.inflight[-1].copied = True

    def hear(self, parts: list[bytes], release: Callable[[int], bool]) -> bytes:
        """What the client gets; what is held is released behind those parts."""
        out = b""
        for number, part in enumerate(parts):
            if self.expected.whole_answer(part):
                out += part
            else:
                out += b"".join(self.expected.feed(part))
            if release(number):
                out += b"".join(self.expected.release())
        return out


def wanted_of(drawn: list[tuple[tuple[bytes, bytes], bool]]) -> bytes:
    """The bytes of the client's answers, and the notifications in the others."""
    out = b""
    for (_, answer), ours in drawn:
        if ours and COPY_IN not in answer:
            out += NOTE * answer.count(NOTE)
        else:
            out += answer
    return out


@settings(max_examples=300, deadline=None)
@given(talks, st.lists(st.integers(1, 90), max_size=80), st.sets(st.integers(0, 80)))
def test_the_client_gets_its_answers_once_and_in_order(
    drawn: list[tuple[tuple[bytes, bytes], bool]], sizes: list[int], releases: set[int]
) -> None:
    stream = b"".join(answer for (_, answer), _ in drawn)
    wanted = wanted_of(drawn)
    whole = Session(drawn)
    assert whole.hear([stream] if stream else [], lambda _: False) == wanted
    chopped = Session(drawn)
    assert chopped.hear(parts_of(stream, sizes), releases.__contains__) == wanted
    for session in (whole, chopped):
        assert session.expected.fault is None
        assert not session.expected.inflight
        assert not session.expected.mid_message
        assert session.expected._watching == 0
    assert chopped.state.statements == whole.state.statements
    assert chopped.state.settings == whole.state.settings
    assert chopped.gatherer.names == whole.gatherer.names
    assert chopped.expected.status == whole.expected.status
    assert chopped.expected.client_params == whole.expected.client_params
    assert chopped.expected.link_params == whole.expected.link_params


@settings(max_examples=300, deadline=None)
@given(talks, st.binary(max_size=60), cuts)
def test_any_bytes_of_a_server_are_passed_on_or_a_fault(
    drawn: list[tuple[tuple[bytes, bytes], bool]], noise: bytes, sizes: list[int]
) -> None:
    session = Session(drawn)
    stream = b"".join(answer for (_, answer), _ in drawn)[:200] + noise
    for part in parts_of(stream, sizes):
        session.hear([part], lambda _: False)
        if session.expected.fault is not None or session.expected.fatal is not None:
            break
    assert session.expected.fault is None or isinstance(session.expected.fault, PeerProtocolError)
    units = session.expected.lost()
    assert all(unit.kind in Kind for unit in units)

"""Any units, any cuts, on backends that do what PostgreSQL does: nothing twice, no lie, no half.

tests/unit/postgres/protocol/_backend.py holds the model: it runs the units, cuts the link at any
step with any part of the answers seen, asks the verdict, follows it on the next link, and again.
"""

from hypothesis import event, given, settings
from hypothesis import strategies as st

from proxy.postgres.protocol.verdict import Replay
from tests.unit.postgres.protocol._backend import WRITES, Backend, Client, Cut, Work

Write = tuple[int, int]

letters = st.sampled_from("rfwwwensvxlBBBCCCRckptP")
texts = st.one_of(letters, letters, letters, st.text(letters, min_size=2, max_size=4))
hidden = st.sampled_from(["", "", "", "", "", "", "", "U"])
works = st.lists(st.tuples(st.tuples(hidden, texts).map("".join), st.booleans()), max_size=6).map(
    lambda drawn: [Work(number, text, query) for number, (text, query) in enumerate(drawn)]
)
cuts = st.lists(
    st.builds(
        Cut,
        left=st.integers(0, 6) | st.just(6),
        executes=st.integers(-1, 3),
        ran=st.integers(0, 16),
        seen=st.integers(0, 16),
        fatal=st.booleans(),
        released=st.booleans(),
        complete=st.booleans(),
    ),
    min_size=1,
    max_size=2,
)
replays = st.sampled_from([Replay.CERTIFIED, Replay.CERTIFIED, Replay.READS, Replay.OFF])


def transactions(client: Client) -> dict[Write, int] | None:
    """The transaction block each write would stand in if no link died; None if a unit of several
    statements fails, as it is not clear then what those behind it were meant for."""
    backend = Backend()
    blocks: dict[Write, int] = {}
    block = 0
    for work in client.works:
        replies = list(backend.run(work))
        if len(work.statements) > 1:
            if any(reply.kind == "E" for reply in replies):
                return None
            continue
        if work.statements in "Bck" and backend.status == "T":
            block += work.statements != "B" or not block_open(client, work)
        if backend.status != "I" and work.statements in WRITES:
            blocks[work.number, 0] = block
    return blocks


def block_open(client: Client, work: Work) -> bool:
    """The client was in a transaction before this unit."""
    backend = Backend()
    for before in client.works[: work.number]:
        list(backend.run(before))
    return backend.status != "I"


@settings(max_examples=600, deadline=None)
@given(works, cuts, replays)
def test_nothing_runs_twice_and_nothing_said_is_wrong(
    drawn: list[Work], deaths: list[Cut], replay: Replay
) -> None:
    client = Client(drawn, replay).live(deaths)
    assert client.errors == []
    assert len(client.saved) == len(set(client.saved)), "a write was saved twice"
    for work in drawn:
        told = client.told[work.number]
        event(told.action)
        saved = [index for number, index in client.saved if number == work.number]
        if told.action in ("ROLLED", "FAILED"):
            assert saved == [], f"{work} was said to be rolled back"
        assert told.action != "ok" or not told.tags or len(told.tags) == len(work.statements)


@settings(max_examples=600, deadline=None)
@given(works, cuts, replays)
def test_transactions_are_saved_whole_or_not_at_all(
    drawn: list[Work], deaths: list[Cut], replay: Replay
) -> None:
    client = Client(drawn, replay).live(deaths)
    blocks = transactions(client)
    if blocks is None or any("t" in work.letters for work in drawn):
        return
    for block in set(blocks.values()):
        saved = [write in client.saved for write, its in blocks.items() if its == block]
        assert all(saved) or not any(saved), "half of a transaction was saved"


@settings(max_examples=600, deadline=None)
@given(st.lists(letters, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6), cuts)
def test_what_the_client_was_told_of_a_write_is_true(
    drawn: list[str], queries: list[bool], deaths: list[Cut]
) -> None:
    units = [
        Work(n, text, query) for n, (text, query) in enumerate(zip(drawn, queries, strict=False))
    ]
    client = Client(units).live(deaths)
    blocks = transactions(client)
    assert blocks is not None
    for work in units:
        told = client.told[work.number]
        write = (work.number, 0)
        done = told.action in ("ok", "FINISH")
        if work.letters in WRITES and write not in blocks and done:
            assert write in client.saved, "a write was lost"
        if work.letters not in "CcP" or "t" in drawn or "e" in drawn:
            continue
        ended = _ended_by(work, units, blocks)
        if told.action in ("ok", "FINISH") and told.tags == [work.letters]:
            assert all(write in client.saved for write in ended), "a commit was lost"
        elif told.action in ("ROLLED", "FAILED", "FINISH") or told.tags == ["R"]:
            assert not any(write in client.saved for write in ended), "a commit was denied"


def _ended_by(work: Work, units: list[Work], blocks: dict[Write, int]) -> list[Write]:
    """The writes of the transaction that this COMMIT would end."""
    before = [write for write in blocks if write[0] < work.number]
    if not before:
        return []
    last = before[-1][0]
    if any(unit.letters in "CcPRk" for unit in units[last : work.number]):
        return []
    return [write for write in before if blocks[write] == blocks[before[-1]]]

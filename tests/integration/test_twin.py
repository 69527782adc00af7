"""The twin test: the corpus through the proxy gives what the server itself gives, byte for byte.

Whole; sent one byte at a time; and with both sides of the upstream link sliced, so that every
message boundary falls into the middle of some read.
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from proxy.demo.cutter import FlowPlan, Plan, Target
from proxy.demo.servers import PostgresServer
from tests import wire
from tests.corpus import schema
from tests.corpus.model import Exchange, masked, play
from tests.corpus.postgres import EXCHANGES
from tests.fix_backstay import Backstay, require_proxy
from tests.fix_cutter import ThreadCutter
from tests.wire import PgWire

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.servers

SMALL_BYTES = 4_000
SLICE_BYTES = 1_021  # prime, so that slices and the usual sizes drift against each other


def run(port: int, subject: Exchange, chop_bytes: int = 0) -> list[bytes]:
    with PgWire.session(("127.0.0.1", port), **subject.parameters) as client:
        client.chop_bytes = chop_bytes
        messages = play(client, subject)
        if not subject.ends:
            # The session is still usable and nothing unasked is on its way.
            assert client.query("SELECT 'end'")[-1][:1] == b"Z"
        return masked(messages, subject)


@pytest.fixture(scope="module")
def direct(
    postgres: PostgresServer, corpus_connection: "psycopg.Connection[Any]"
) -> "dict[str, list[bytes]]":
    """The server's own answers."""
    answers = {}
    for subject in EXCHANGES:
        schema.reset(corpus_connection, subject)
        answers[subject.name] = run(postgres.port, subject)
    return answers


@pytest.fixture(scope="module")
def sliced(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[int, int]]:
    """Ports of a proxy whose upstream link is sliced, by the size of the slices."""
    require_proxy()
    cutters = {}
    for size in (1, SLICE_BYTES):
        flow = FlowPlan(piece_bytes=size)
        target = Target(address=("127.0.0.1", postgres.port))
        cutters[size] = ThreadCutter(target, plan=Plan(to_client=flow, to_server=flow))
        cutters[size].__enter__()
    routes = [
        {"name": f"by{size}", "upstream": f"postgresql://127.0.0.1:{cutter.port}/app"}
        for size, cutter in cutters.items()
    ]
    proxy = Backstay({"postgres": routes}, tmp_path_factory.mktemp("sliced")).start()
    yield {size: proxy.port(route=number) for number, size in enumerate(cutters)}
    proxy.stop()
    for cutter in cutters.values():
        cutter.__exit__()


def check(
    subject: Exchange,
    direct: dict[str, list[bytes]],
    connection: "psycopg.Connection[Any]",
    port: int,
    chop_bytes: int = 0,
) -> None:
    schema.reset(connection, subject)
    assert run(port, subject, chop_bytes) == direct[subject.name]
    assert schema.effects(connection, subject) == subject.effects


@pytest.mark.parametrize("subject", EXCHANGES, ids=lambda subject: subject.name)
def test_whole(
    subject: Exchange,
    direct: dict[str, list[bytes]],
    corpus_connection: "psycopg.Connection[Any]",
    backstay: Backstay,
) -> None:
    check(subject, direct, corpus_connection, backstay.port())


@pytest.mark.parametrize("subject", EXCHANGES, ids=lambda subject: subject.name)
def test_chopped(
    subject: Exchange,
    direct: dict[str, list[bytes]],
    corpus_connection: "psycopg.Connection[Any]",
    backstay: Backstay,
) -> None:
    chop_bytes = 1 if subject.sent_bytes <= SMALL_BYTES else SLICE_BYTES
    check(subject, direct, corpus_connection, backstay.port(), chop_bytes)


@pytest.mark.parametrize("subject", EXCHANGES, ids=lambda subject: subject.name)
def test_sliced_upstream(
    subject: Exchange,
    direct: dict[str, list[bytes]],
    corpus_connection: "psycopg.Connection[Any]",
    sliced: dict[int, int],
) -> None:
    received_bytes = sum(map(len, direct[subject.name]))
    small = max(received_bytes, subject.sent_bytes) <= SMALL_BYTES
    check(subject, direct, corpus_connection, sliced[1 if small else SLICE_BYTES])


@pytest.mark.parametrize("way", ["terminate", "fin"])
def test_no_session_outlives_its_client(
    corpus_connection: "psycopg.Connection[Any]",
    make_backstay: Callable[..., Backstay],
    postgres: PostgresServer,
    way: str,
) -> None:
    """After each exchange the client leaves; the proxy must see it, whatever came before."""
    proxy = make_backstay(postgres=[{"upstream": f"postgresql://127.0.0.1:{postgres.port}/app"}])
    names: dict[int, str] = {}
    for number, subject in enumerate(EXCHANGES, start=1):
        names[number] = subject.name
        schema.reset(corpus_connection, subject)
        with PgWire.session(("127.0.0.1", proxy.port()), **subject.parameters) as client:
            play(client, subject)
            if way == "terminate" and not subject.ends:
                client.send(wire.TERMINATE)
    # Sessions are numbered as they come, and these came one after the other.
    deadline_s = time.monotonic() + 5
    while left := set(names) - proxy.logged("disconnected", "session"):
        if time.monotonic() > deadline_s:
            pytest.fail(f"still there: {sorted(names[number] for number in left)}")
        time.sleep(0.05)

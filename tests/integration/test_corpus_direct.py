"""The corpus against the server itself: complete, repeatable, and its ledger is right."""

from typing import TYPE_CHECKING, Any

import pytest

from proxy.demo.servers import PostgresServer
from tests.corpus import schema
from tests.corpus.model import Exchange, masked, play
from tests.corpus.postgres import BY_NAME, EXCHANGES
from tests.wire import PgWire, WireClosed

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.servers


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    assert len(EXCHANGES) >= 170
    assert len(BY_NAME) == len(EXCHANGES)


def run(server: PostgresServer, subject: Exchange, chop_bytes: int = 0) -> list[bytes]:
    with PgWire.session(("127.0.0.1", server.port), **subject.parameters) as client:
        client.chop_bytes = chop_bytes
        messages = masked(play(client, subject), subject)
        if not subject.ends:
            with pytest.raises(TimeoutError):  # nothing is left over
                client.read_message(0.01)
        return messages


@pytest.mark.parametrize("subject", EXCHANGES, ids=lambda subject: subject.name)
def test_same_answer_and_effect_each_time(
    postgres: PostgresServer, corpus_connection: "psycopg.Connection[Any]", subject: Exchange
) -> None:
    schema.reset(corpus_connection, subject)
    first = run(postgres, subject)
    assert schema.effects(corpus_connection, subject) == subject.effects
    schema.reset(corpus_connection, subject)
    assert run(postgres, subject) == first
    assert schema.effects(corpus_connection, subject) == subject.effects


def test_every_kind_of_backend_message_occurs(
    postgres: PostgresServer, corpus_connection: "psycopg.Connection[Any]"
) -> None:
    """A corpus that never made the server say something would prove nothing about it."""
    seen: set[bytes] = set()
    for subject in EXCHANGES:
        schema.reset(corpus_connection, subject)
        try:
            seen |= {raw[:1] for raw in run(postgres, subject)}
        except WireClosed:
            pytest.fail(f"{subject.name} was cut by the server itself")
    assert seen >= {bytes([letter]) for letter in b"123ACDEGHINSTVZcdnst"}

"""The campaign's short form, and that its oracles and its seed do what they are for."""

import random
import time

import pytest

from proxy.demo.binaries import postgres_bin, postgres_has_tls
from proxy.demo.ledger import balance
from proxy.demo.servers import RedisServer
from tests.campaign import redis_work
from tests.campaign.faults import DECK, deck
from tests.campaign.kit import Books, Crew
from tests.campaign.stage import Campaign
from tests.campaign.table import table

SECONDS = 15.0
SEED = 5


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(150)
def test_short_campaign() -> None:
    if not postgres_has_tls(postgres_bin()):
        pytest.skip("this PostgreSQL was built without TLS")
    with Campaign(SEED, SECONDS) as campaign:
        result = campaign.run()
    print(table(result))
    assert result.problems == []
    assert sum(result.faults.values()) >= 8
    assert result.balance.acknowledged > 100
    assert result.books.checks > 20
    assert result.postgres["counts"]["losses"] > 20
    assert result.books.statements["INCR"] > 100
    assert result.redis["cache"]["hits"] > 100


def test_a_seed_gives_the_same_faults() -> None:
    one, same, other = (deck(random.Random(seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert set(one) == set(DECK)


def test_the_ledger_sees_lost_doubled_and_invented() -> None:
    books = Books()
    books.writes.acknowledged = {1, 2}
    books.writes.unsure = {3, 4}
    books.writes.refused = {4}
    found = balance(books.writes, [(2, 2), (3, 1), (4, 1)])
    assert (found.lost, found.doubled, found.invented, found.unknown_stored) == (1, 1, 1, 1)


def test_a_stale_read_is_seen() -> None:
    outsider = redis_work.Outsider(RedisServer(), Crew(Books()))
    now_s = time.monotonic()
    outsider.acknowledged.extend([(now_s - 2, 1), (now_s - 1, 2), (now_s, 3)])
    assert outsider.least(now_s - redis_work.LEASE_S) == 2
    assert outsider.least(now_s) == 3
    assert outsider.least(now_s - 3) == 0


def test_a_worker_that_raises_is_noted() -> None:
    crew = Crew(Books())
    crew.hire("worker", lambda: 1 // 0)
    crew.stop()
    assert crew.books.broken == ["worker: ZeroDivisionError: integer division or modulo by zero"]

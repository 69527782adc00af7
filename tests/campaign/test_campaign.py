"""The campaign's three minutes, and that its oracles and its seed do what they are for."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from proxy.core.histogram import BOUNDS_S
from proxy.demo.binaries import postgres_bin, postgres_has_tls
from proxy.demo.ledger import Balance, balance
from proxy.demo.servers import RedisServer
from tests.campaign import redis_work
from tests.campaign.faults import DECK, NETWORK_DECK, deck, kinds
from tests.campaign.kit import Board, Books, Crew, Phase
from tests.campaign.stage import Result
from tests.campaign.totals import Totals

SEED = os.environ.get("BACKSTAY_CAMPAIGN_SEED", "5")
RUN_S_MAX = 480.0  # twice its three minutes on a machine that is busy, and the servers' starts
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.starts_first
@pytest.mark.timeout(RUN_S_MAX + 20)
def test_three_minutes(tmp_path: Path) -> None:
    """A process of its own, as it moves into a network namespace where it may.

    BACKSTAY_CAMPAIGN_SEED: other faults than those of the seed that it always has.
    """
    if not postgres_has_tls(postgres_bin()):
        pytest.skip("this PostgreSQL was built without TLS")
    words = [sys.executable, "-m", "tests.campaign", SEED, "calm", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=RUN_S_MAX, cwd=ROOT)
    print(done.stdout, done.stderr)
    result = json.loads((tmp_path / f"campaign-{SEED}.json").read_text())
    assert result["problems"] == []
    assert done.returncode == 0
    assert set(result["faults"]) == set(kinds(network=not result["no_network"]))
    assert result["writes"]["acknowledged"] > 1000
    assert result["idle sessions' checks"] > 200
    assert result["links lost under a session"] > 100
    assert result["statements"]["INCR"] > 1000
    assert result["cache hits"] > 1000
    assert result["lives of the proxy"] > 2
    assert {"doubled", "lost", "wrong"} <= result["closing"].keys()


def test_a_seed_gives_the_same_faults() -> None:
    one, same, other = (deck(random.Random(seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert set(one) == set(DECK) | set(NETWORK_DECK)
    assert set(deck(random.Random(1), network=False)) == set(DECK)


def test_the_ledger_sees_lost_doubled_and_invented() -> None:
    books = Books()
    books.writes.acknowledged = {1, 2}
    books.writes.unsure = {3, 4}
    books.writes.refused = {4}
    found = balance(books.writes, [(2, 2), (3, 1), (4, 1)])
    assert (found.lost, found.doubled, found.invented, found.unknown_stored) == (1, 1, 1, 1)


def test_a_stale_read_is_seen() -> None:
    outsider = redis_work.Outsider(RedisServer, Crew(Books()))
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


def test_a_fault_meets_whoever_is_in_a_phase() -> None:
    board, inside, over = Board(tuple(Phase)), threading.Event(), threading.Event()

    def work() -> None:
        with board.doing(Phase.IDLE), board.doing(Phase.IN_COPY):
            inside.set()
            over.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    board.strike("a fault")
    over.set()
    thread.join()
    board.strike("another")
    assert board.met == {("a fault", Phase.IN_COPY): 1, ("another", Phase.IDLE): 1}


def test_the_lives_of_the_proxy_add_up() -> None:
    def life(waits: list[int], longest_s: float) -> dict[str, object]:
        empty = {"count": 0, "max_s": 0.0, "counts": waits}
        latency = {"wait": empty | {"max_s": longest_s}, "outage": empty | {"count": 1}}
        route = {"counts": {"losses": 2}, "latency": latency}
        return {"postgres": [route, route], "redis": [route | {"cache": {"hits": 5}}]}

    waits = [7, *([0] * (len(BOUNDS_S) - 1)), 3]
    totals = Totals()
    totals.add(life(waits, 0.5))
    totals.add(life(waits, 0.2))
    assert totals.postgres["losses"] == 8
    assert totals.waited == 12
    assert totals.cache_hits == 10
    assert totals.outages == {"postgres": 4, "redis": 2}
    assert totals.longest["wait"] == 0.5


def test_what_was_never_reached_is_named() -> None:
    crew = Crew(Books())
    crew.postgres.met["postgres FIN", Phase.IN_COPY] = 1
    counts = Totals(postgres=Counter(replayed_read_only=1))
    nothing = Balance(0, 0, 0, 0, 0, 0)
    result = Result(1, 9.0, {"postgres FIN"}, {}, {}, crew.books, crew, nothing, counts, {})
    never = result.never()
    assert "fault: postgres FIN" in never
    assert "postgres FIN in a transaction" in never
    assert "postgres FIN in COPY" not in never
    assert "sent again by certificate FT" in never
    assert "replayed by certificate RO" not in never

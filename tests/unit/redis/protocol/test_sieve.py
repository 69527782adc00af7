"""The byte budget: the bound holds, SIEVE spares what is read, the broom finds what ended."""

import gc
import random
import tracemalloc

import pytest

from proxy.redis.protocol.sieve import ENTRY_OVERHEAD_BYTES, HAND_STEPS_MAX, Budget, Entry

COST = ENTRY_OVERHEAD_BYTES + 30


class Home:
    """Remembers what had to go."""

    def __init__(self) -> None:
        self.gone: list[bytes] = []
        self.folded: list[bytes] = []

    def forget(self, entry: Entry) -> None:
        self.gone.append(entry.key)

    def fold(self, entry: Entry) -> None:
        self.folded.append(entry.key)


def entry(home: Home, name: str, deadline_s: float = 1e9) -> Entry:
    made = Entry(home, 3, name.encode().rjust(10), b"r" * 10, b"v" * 10)
    made.deadline_s = made.expires_s = deadline_s
    return made


def names(home: Home) -> list[str]:
    return [key.decode().strip() for key in home.gone]


def filled(home: Home, budget: Budget, text: str) -> dict[str, Entry]:
    made = {name: entry(home, name) for name in text}
    for one in made.values():
        budget.add(one, 0.0)
    return made


def test_the_oldest_unread_goes_first() -> None:
    home, budget = Home(), Budget(3 * COST)
    filled(home, budget, "abcde")
    assert names(home) == ["a", "b"]
    assert budget.used_bytes == 3 * COST
    assert budget.entries == 3
    assert budget.evicted == 2


def test_what_was_read_is_spared_once_per_round_of_the_hand() -> None:
    home, budget = Home(), Budget(3 * COST)
    made = filled(home, budget, "abc")
    made["a"].hits += 1
    budget.add(entry(home, "d"), 0.0)
    assert names(home) == ["b"]
    (e,) = filled(home, budget, "e").values()  # the hand goes on where it was: c, not a again
    assert names(home) == ["b", "c"]
    e.hits += 1
    (f,) = filled(home, budget, "f").values()
    assert names(home) == ["b", "c", "d"]
    f.hits += 1
    filled(home, budget, "g")  # past e and f, round to a, which nobody read since
    assert names(home) == ["b", "c", "d", "a"]


def test_an_ended_entry_goes_although_it_was_read() -> None:
    home, budget = Home(), Budget(2 * COST)
    old = entry(home, "a", deadline_s=1.0)
    old.hits = 9
    budget.add(old, 0.0)
    budget.add(entry(home, "b"), 0.0)
    budget.add(entry(home, "c"), 2.0)
    assert names(home) == ["a"]


def test_one_insert_is_bounded_although_everything_was_read() -> None:
    home, budget = Home(), Budget((HAND_STEPS_MAX + 100) * COST)
    for i in range(HAND_STEPS_MAX + 100):
        one = entry(home, str(i))
        one.hits = 1
        budget.add(one, 0.0)
    budget.add(entry(home, "new"), 0.0)
    assert names(home) == [str(HAND_STEPS_MAX)]


def test_an_entry_larger_than_everything_evicts_itself() -> None:
    home, budget = Home(), Budget(COST - 1)
    budget.add(entry(home, "a"), 0.0)
    assert names(home) == ["a"]
    assert budget.used_bytes == 0
    assert budget.entries == 0


def test_an_alias_that_costs_too_much_evicts() -> None:
    home, budget = Home(), Budget(2 * COST)
    made = filled(home, budget, "ab")
    budget.grow(made["b"], 1, 0.0)
    assert names(home) == ["a"]
    assert budget.used_bytes == COST + 1


@pytest.mark.parametrize("first", range(3))
def test_removal_anywhere_keeps_the_order(first: int) -> None:
    home, budget = Home(), Budget(3 * COST)
    made = filled(home, budget, "abc")
    gone = "abc"[first]
    budget.remove(made[gone])
    filled(home, budget, "de")
    assert names(home) == [next(name for name in "abc" if name != gone)]


def test_the_hand_moves_on_when_its_entry_is_removed() -> None:
    home, budget = Home(), Budget(3 * COST)
    made = filled(home, budget, "abc")
    made["a"].hits = 1
    budget.add(entry(home, "d"), 0.0)  # evicts b; the hand is at c
    budget.remove(made["c"])
    filled(home, budget, "ef")
    assert names(home) == ["b", "d"]


def test_the_broom_goes_round_in_small_steps() -> None:
    home, budget = Home(), Budget(100 * COST)
    for i in range(10):
        budget.add(entry(home, str(i), deadline_s=1.0 if i % 2 else 1e9), 0.0)
    assert budget.sweep(2.0, 4) == 2
    assert names(home) == ["1", "3"]
    assert budget.sweep(2.0, 4) == 2
    assert budget.sweep(2.0, 4) == 1
    assert names(home) == ["1", "3", "5", "7", "9"]
    assert budget.expired == 5
    assert budget.entries == 5
    assert len(home.folded) >= 5


def test_the_broom_empties_and_starts_anew() -> None:
    home, budget = Home(), Budget(100 * COST)
    filled(home, budget, "ab")
    assert budget.sweep(2e9, 100) == 2
    assert budget.sweep(2e9, 100) == 0
    filled(home, budget, "c")
    assert budget.sweep(0.0, 100) == 0
    assert budget.sweep(2e9, 100) == 1


def test_the_broom_moves_on_when_its_entry_is_removed() -> None:
    home, budget = Home(), Budget(100 * COST)
    made = filled(home, budget, "abc")
    budget.sweep(0.0, 1)  # the broom is at b
    budget.remove(made["b"])
    budget.sweep(0.0, 1)
    assert [key.decode().strip() for key in home.folded] == ["a", "c"]


def test_a_value_that_ended_while_its_cap_runs_is_reclaimed() -> None:
    home, budget = Home(), Budget(100 * COST)
    one = entry(home, "a", deadline_s=50.0)
    one.expires_s = 5.0
    budget.add(one, 0.0)
    assert budget.sweep(6.0, 1) == 1


def test_an_entry_is_added_once() -> None:
    home, budget = Home(), Budget(100 * COST)
    made = filled(home, budget, "ab")
    with pytest.raises(AssertionError):
        budget.add(made["a"], 0.0)


def test_nothing_private_in_its_words() -> None:
    assert "secret" not in repr(Entry(Home(), 3, b"secret", b"secret", b"secret"))


def test_a_skewed_load_with_noise_hits_more_often_than_first_in_first_out() -> None:
    rng = random.Random(5)
    # Zipf-like, with one read in five for a key that is never read again
    keys = [10_000 + i if i % 5 == 0 else int(2000 ** rng.random()) for i in range(20_000)]
    home, budget = Home(), Budget(200 * COST)
    cached: dict[int, Entry] = {}
    hits = 0
    for key in keys:
        if key in cached:
            cached[key].hits += 1
            hits += 1
            continue
        cached[key] = entry(home, str(key))
        budget.add(cached[key], 0.0)
        while home.gone:
            del cached[int(home.gone.pop())]
    fifo: dict[int, None] = {}
    fifo_hits = 0
    for key in keys:
        fifo_hits += key in fifo
        fifo.setdefault(key)
        if len(fifo) > 200:
            del fifo[next(iter(fifo))]
    assert hits > fifo_hits * 1.1


def test_the_overhead_is_not_an_understatement() -> None:
    """Real entries in a real store against tracemalloc: charged at least what they take."""
    from proxy.redis.protocol.cacheable import request
    from proxy.redis.protocol.insight import Insight
    from proxy.redis.protocol.store import Store, Value

    budget = Budget(1 << 30)
    store = Store(budget, Insight())
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(11_000):  # just after a dictionary doubled: its worst load
            key = b"user:%d" % i
            reply = bytes(bytearray(b"$5\r\nhello\r\n"))
            value = Value(key, request([b"GET", key]), reply, i + 0.5, i + 0.25, False)
            store.put(3, b"GET", value, 0.0)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= budget.used_bytes
    assert taken > budget.used_bytes / 2

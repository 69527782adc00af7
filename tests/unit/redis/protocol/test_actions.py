"""The cache's words: nothing is shared between two outcomes, and settings cannot drift."""

from dataclasses import FrozenInstanceError

import pytest

from proxy.redis.protocol.actions import CacheOptions, Fault, Out, Server


def test_outcomes_share_nothing() -> None:
    first, second = Out(), Out()
    first.answers.append((object(), b"+OK\r\n"))
    first.direct.append(object())
    first.write = b"x"
    first.fault = Fault.SILENT
    assert (second.answers, second.direct, second.write, second.fault) == ([], [], b"", None)


def test_an_outcome_takes_no_misspelt_field() -> None:
    with pytest.raises(AttributeError):
        Out().writes = b"x"  # type: ignore[attr-defined]


def test_options_are_named_and_fixed() -> None:
    with pytest.raises(TypeError):
        CacheOptions(1)  # type: ignore[misc]
    options = CacheOptions()
    with pytest.raises(FrozenInstanceError):
        options.ttl_s = 1.0  # type: ignore[misc]
    assert options.max_entry_bytes <= options.max_bytes
    assert options.flight_s < options.silent_s


def test_servers_compare_by_what_was_learnt() -> None:
    assert Server((7, 4, 0), True) == Server((7, 4, 0), True)
    assert Server((7, 4, 0), True) != Server((7, 4, 0), False)


def test_each_fault_has_its_own_words() -> None:
    assert len(Fault.__members__) == len(list(Fault)) == 3

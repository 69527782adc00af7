"""The tables of legal steps: every phase can be reached, and no other step is taken."""

from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from proxy.postgres.protocol.classify import Classifier
from proxy.postgres.runtime import entry, link, session

MACHINES: dict[str, tuple[ModuleType, type, str, str]] = {
    "link": (link, link.Link, "become", "phase"),
    "session": (session, session.Session, "become", "phase"),
    "entry": (entry, entry.Entry, "_become", "_phase"),
}
STEPS = [
    (name, before, after)
    for name, (module, *_) in MACHINES.items()
    for before in module.Phase
    for after in module.Phase
]


def in_phase(name: str, phase: Enum) -> tuple[Any, Any]:
    """A machine in this phase, not started otherwise, and the method that moves it."""
    _, kind, mover, field = MACHINES[name]
    route = SimpleNamespace(classifier=Classifier())
    machine = kind(route, None, (), 1) if name == "session" else kind.__new__(kind)
    setattr(machine, field, phase)
    return machine, getattr(machine, mover)


@pytest.mark.parametrize(("name", "before", "after"), STEPS)
def test_legal_steps_are_taken_and_others_refused(name: str, before: Enum, after: Enum) -> None:
    module, _, _, field = MACHINES[name]
    machine, become = in_phase(name, before)
    if after in module.LEGAL[before]:
        become(after)
        assert getattr(machine, field) is after
    else:
        with pytest.raises(AssertionError, match="→"):
            become(after)
        assert getattr(machine, field) is before


@pytest.mark.parametrize("name", MACHINES)
def test_every_phase_is_in_the_table_and_can_be_reached(name: str) -> None:
    module = MACHINES[name][0]
    first = next(iter(module.Phase))
    assert set(module.LEGAL) == set(module.Phase)
    reached, todo = {first}, [first]
    while todo:
        for after in module.LEGAL[todo.pop()] - reached:
            reached.add(after)
            todo.append(after)
    assert reached == set(module.Phase)


@pytest.mark.parametrize("name", MACHINES)
def test_there_is_one_end_and_it_can_be_reached_from_everywhere(name: str) -> None:
    module = MACHINES[name][0]
    ends = [phase for phase in module.Phase if not module.LEGAL[phase]]
    assert ends == [list(module.Phase)[-1]]
    for phase in module.Phase:
        assert phase is ends[0] or ends[0] in module.LEGAL[phase]


def test_where_machines_begin() -> None:
    assert link.Link().phase is link.Phase.OPENING
    assert next(iter(session.Phase)) is session.Phase.JOINING
    assert next(iter(entry.Phase)) is entry.Phase.FIRST

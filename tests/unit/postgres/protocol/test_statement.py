"""Plain statements and scripts."""

import pytest

from proxy.postgres.protocol.effects import UsesSequence
from proxy.postgres.protocol.statement import Class, Copy, Opaque, Statement, Tx, script_of


@pytest.mark.parametrize(
    "statement",
    [
        Statement(Class.READ, "SELECT", Tx.LOCAL),
        Statement(Class.READ, "SELECT", effects=(UsesSequence(),)),
        Statement(Class.READ, "COPY", copy=Copy.OUT),
        Statement(Class.READ, "SELECT", opaque=Opaque.WEAK),
    ],
)
def test_what_is_not_plain(statement: Statement) -> None:
    assert not statement.plain
    assert not script_of((statement,)).plain


def test_scripts() -> None:
    plain = Statement(Class.WRITE, "INSERT")
    assert script_of((plain,)).plain
    assert script_of((plain,)).kind is Class.WRITE
    both = script_of((plain, plain))
    assert (both.kind, both.plain) == (Class.OTHER, False)
    assert script_of(()).plain
    assert script_of(()).kind is Class.READ

"""The fingerprint's question, answer and comparison. Real servers: tests/integration."""

from dataclasses import replace

import pytest

from proxy.core.errors import PeerProtocolError
from proxy.postgres.protocol import fingerprint, messages
from proxy.postgres.protocol.fingerprint import Expected, Fingerprint, Identity

FULL = [
    (b"t", b"", b"3"),
    (b"a", b"", b"2"),
    (b"r", b"", b"boss"),
    (b"u", b"", b"app"),
    (b"c", b"chan", b""),
    (b"h", b"cur", b""),
    (b"p", b"P", b'PREPARE "P" AS SELECT 1'),
    (b"s", b"TimeZone", b"UTC"),
    (b"s", b"transaction_isolation", b"read committed"),
    (b"g", b"App.X", b"secret"),
    (b"g", b"app.gone", None),
]


def body(*fields: bytes | None) -> bytes:
    return messages.row(fields)[5:]


def test_an_answer() -> None:
    found = fingerprint.read([body(*row) for row in FULL])
    assert found == Fingerprint(
        temp_objects=3,
        advisory_locks=2,
        role=b"boss",
        session_user=b"app",
        channels=frozenset((b"chan",)),
        cursors=frozenset((b"cur",)),
        prepared={b"P": b'PREPARE "P" AS SELECT 1'},
        settings={b"timezone": b"UTC"},
        custom={b"app.x": b"secret", b"app.gone": None},
    )
    assert "secret" not in repr(found)


def test_rows_of_a_restoration_before_it_are_left_out() -> None:
    rows = [body(b"secret"), *(body(*row) for row in FULL)]
    assert fingerprint.read(rows) == fingerprint.read(rows[1:])


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [body(b"t", b"", b"1")],
        [body(b"t", b"", b"x"), body(b"a", b"", b"0")],
        [body(b"t", b"", b"-1"), body(b"a", b"", b"0")],
        [body(b"t", b"", b"9" * 19), body(b"a", b"", b"0")],
        [body(b"?", b"", b"1")],
        [body(None, b"", b"1")],
        [body(b"c", None, b"1")],
        [body(b"a", b"b")],
        [b""],
        [b"\0\3"],
    ],
)
def test_answers_to_another_question_are_refused(rows: list[bytes]) -> None:
    with pytest.raises(PeerProtocolError):
        fingerprint.read(rows)


def test_the_question_is_one_unit_under_its_own_names() -> None:
    data = fingerprint.ask((b"app.x", b'odd."na\\me"'))
    kinds = []
    while data:
        size = int.from_bytes(data[1:5], "big") + 1
        kinds.append(data[:1])
        if data[:1] == b"B":
            assert messages.bind_names(data, 5, size) == (b"_backstay_fp", b"_backstay_fp")
            assert messages.bind_params(data, 5, size) == [b'{"app.x","odd.\\"na\\\\me\\""}']
        data = data[size:]
    assert b"".join(kinds) == b"CPBECCS"


SAME = Expected(
    settings={b"jit": b"off"},
    names=frozenset((b"jit", b"app.x", b"role", b"hidden")),
    custom={b"app.x": b"1"},
    channels=frozenset((b"c",)),
    prepared={b"p": b"PREPARE p AS SELECT 1"},
    role=b"boss",
    session_user=b"app",
)
TRUTH = Fingerprint(
    role=b"boss",
    session_user=b"app",
    channels=frozenset((b"c",)),
    prepared={b"p": b"SELECT 0; PREPARE p AS SELECT 1"},
    settings={b"jit": b"off", b"hidden": b"x"},
    custom={b"app.x": b"1"},
)


def test_no_difference() -> None:
    assert TRUTH.difference(SAME) is None
    unknown = replace(SAME, role=None, session_user=None)
    assert replace(TRUTH, role=b"x", session_user=b"y").difference(unknown) is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"temp_objects": 1}, "temporary objects"),
        ({"advisory_locks": 1}, "advisory locks"),
        ({"cursors": frozenset((b"c",))}, "held cursors"),
        ({"channels": frozenset()}, "channels"),
        ({"role": b"none"}, "role"),
        ({"session_user": b"x"}, "session authorization"),
        ({"prepared": {}}, "prepared statements"),
        ({"prepared": {b"p": b"PREPARE p AS SELECT 2"}}, "prepared statements"),
        ({"settings": {b"jit": b"on"}}, "setting jit"),
        ({"settings": {}}, "setting jit"),
        ({"settings": {b"jit": b"off", b"geqo": b"off"}}, "setting geqo"),
        ({"custom": {}}, "setting app.x"),
        ({"custom": {b"app.x": b"2"}}, "setting app.x"),
    ],
)
def test_differences_are_named_without_values(changes: dict[str, object], named: str) -> None:
    assert replace(TRUTH, **changes).difference(SAME) == named  # type: ignore[arg-type]


def test_a_setting_that_is_shown_is_compared_in_the_form_it_is_shown_in() -> None:
    found = replace(TRUTH, settings={**TRUTH.settings, b"app.x": b"1000"}, custom={b"app.x": b"1s"})
    assert found.difference(SAME) is None


def test_identity() -> None:
    start, system = b"2026-01-01 00:00:00+00", b"7711575705293830809"
    row = body(b"42", start, system, b"2026-01-01", b"150004", b"f")
    found = fingerprint.read_identity([row])
    assert found == Identity(
        42, "2026-01-01 00:00:00+00", "7711575705293830809", "2026-01-01", 150004, False
    )
    assert found.incarnation == ("7711575705293830809", "2026-01-01")
    assert fingerprint.identity() == messages.query(fingerprint.IDENTITY_SQL)


def test_identity_that_is_not_all_told() -> None:
    found = fingerprint.read_identity([body(b"42", None, None, None, b"120000", b"t")])
    assert found == Identity(42, None, None, None, 120000, True)


@pytest.mark.parametrize(
    "rows", [[], [body(b"1")], [body(None, None, None, None, b"1", b"t")], [b"\0"]]
)
def test_identity_that_is_none(rows: list[bytes]) -> None:
    with pytest.raises(PeerProtocolError):
        fingerprint.read_identity(rows)

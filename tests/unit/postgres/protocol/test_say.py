"""The text rules, over everything the proxy can say; and the answers it makes up."""

import inspect
import re
import typing
from types import SimpleNamespace

import psycopg2
import pytest
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol import say

DIALECT = PGDialect_psycopg2(dbapi=psycopg2)
IDLE, IN_TRANSACTION, FAILED = m.STATUS_IDLE, m.STATUS_IN_TRANSACTION, m.STATUS_FAILED
LAST = {
    "S": "FATAL",
    "V": "FATAL",
    "C": "57P01",
    "M": "terminating connection due to administrator command",
}

# One call at least of each function, the longest forms included. A function without an entry fails
# test_every_text_is_walked.
OUTCOMES = {
    "rolled_back": lambda: say.rolled_back("Lost while the statement ran.", FAILED, LAST),
    "rolled_back at commit": lambda: say.rolled_back("Lost before COMMIT.", IDLE),
    "doubt": lambda: say.doubt("nothing proves that it was rolled back", last=LAST),
    "doubt in class 40": lambda: say.doubt("deadline", "40003"),
    "doubt of our own": lambda: say.doubt("its COMMIT may have run", "RP002"),
    "done": lambda: say.done(last=LAST),
    "mid_result": lambda: say.mid_result(17, last=LAST),
    "mid_result of one": lambda: say.mid_result(1),
    "in_failed_transaction": say.in_failed_transaction,
    "cancelled": lambda: say.cancelled(IN_TRANSACTION),
}
ENDS = {
    "state_lost": lambda: say.state_lost("temporary tables", LAST),
    "gone": lambda: say.gone(30.0, say.last_words(LAST)),
    "starting": lambda: say.starting(30.25, "cannot connect to db.example.com:5432: refused"),
    "hold_full": lambda: say.hold_full(1000, established=True),
    "hold_full at login": lambda: say.hold_full(1000, established=False),
    "pool_full": lambda: say.pool_full(5.0, 20),
    "opened_too_slowly": lambda: say.opened_too_slowly(5.0),
    "too_many_clients": lambda: say.too_many_clients(1000),
    "login_timeout": lambda: say.login_timeout(60),
    "protocol_violation": lambda: say.protocol_violation("invalid message length"),
    "shutting_down": say.shutting_down,
    "shutting_down at work": lambda: say.shutting_down(running=True),
    "internal_error": say.internal_error,
    "replication_refused": say.replication_refused,
    "tls_required": say.tls_required,
    "password_needs_tls": say.password_needs_tls,
    "client_certificate_required": say.client_certificate_required,
    "upstream_login_failed": lambda: say.upstream_login_failed("no password", "Set one."),
}
SERVERS_OWN = {
    "password_failed": lambda: say.password_failed(b"bob"),
    "password_empty": say.password_empty,
    "no_user": say.no_user,
    "unsupported_protocol": lambda: say.unsupported_protocol(2, 0),
    "login_violation": lambda: say.login_violation("invalid length", "detail"),
}
NOTICES = {
    **{f"waiting {w}": lambda w=w: say.waiting(5.0, 30.0, w) for w in say.Wait},
    "notifications_missed": say.notifications_missed,
}
ALL = {**OUTCOMES, **ENDS, **SERVERS_OWN, **NOTICES}


def split(said: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """(type, fields, what follows) of messages that begin with an error or a notice."""
    end = 1 + int.from_bytes(said[1:5])
    return said[:1], m.error_fields(said[5:end]), said[end:]


def test_every_text_is_walked():
    speakers = {
        name
        for name, function in inspect.getmembers(say, inspect.isfunction)
        if not name.startswith("_") and typing.get_type_hints(function).get("return") is say.Said
    }
    assert {name.split(" ")[0] for name in ALL} == speakers


@pytest.mark.parametrize("name", ALL)
def test_carries_its_reason_and_code(name: str):
    said = ALL[name]()
    _, fields, _ = split(said)
    assert isinstance(said.reason, Reason)
    assert fields["R"] == said.reason.value
    assert fields["C"] == said.sqlstate
    assert len(said.sqlstate) == 5
    assert fields["S"] == fields["V"] == said.severity


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcomes_are_errors_with_ready_for_query(name: str):
    kind, fields, rest = split(OUTCOMES[name]())
    assert kind == b"E"
    assert fields["S"] == "ERROR"
    assert rest[:5] == b"Z\0\0\0\5"
    assert len(rest) == 6
    assert "usable" in fields["H"] or "ROLLBACK" in fields["H"]


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcomes_never_look_like_a_dead_connection(name: str):
    _, fields, _ = split(OUTCOMES[name]())
    for phrase in say.FORBIDDEN_IN_ERRORS:
        assert phrase not in fields["M"] + fields["H"]
        # In the detail the server may be quoted, after a quotation mark.
        assert phrase not in fields["D"].partition('"')[0]
    assert fields["C"][:2] not in ("53", "58", "XX")
    assert fields["C"] not in ("57P01", "57P02", "57P03")


@pytest.mark.parametrize("name", OUTCOMES)
def test_sqlalchemy_keeps_its_pool(name: str):
    # psycopg2's text of a server error: message, then detail and hint on lines of their own.
    _, fields, _ = split(OUTCOMES[name]())
    error = psycopg2.OperationalError(f"{fields['M']}\nDETAIL:  {fields['D']}\n")
    connection = SimpleNamespace(closed=0)
    assert not DIALECT.is_disconnect(error, connection, None)


@pytest.mark.parametrize("name", ENDS)
def test_sqlalchemy_notices_the_end_of_a_session(name: str):
    kind, fields, rest = split(ENDS[name]())
    assert kind == b"E"
    assert fields["S"] == "FATAL"
    assert rest == b""
    assert fields["M"].startswith("terminating connection: ")
    error = psycopg2.OperationalError(fields["M"])
    assert DIALECT.is_disconnect(error, SimpleNamespace(closed=0), None)


def test_forbidden_phrases_are_all_that_sqlalchemy_looks_for():
    for phrase in DIALECT._is_disconnect_messages:
        assert any(known in phrase for known in say.FORBIDDEN_IN_ERRORS), phrase


@pytest.mark.parametrize("name", {**OUTCOMES, **ENDS, **NOTICES})
def test_says_what_it_means_and_what_to_do(name: str):
    _, fields, _ = split(ALL[name]())
    assert fields["D"]
    assert fields["H"]
    assert fields["M"][0].islower()
    assert not fields["M"].endswith(".")
    for sentences in (fields["D"], fields["H"]):
        assert sentences.endswith(".")
        assert not sentences.endswith("..")
        own = re.sub('"[^"]*"', "", sentences)  # what others said is quoted
        assert all(one[0].isupper() for one in re.split(r"(?<=[^.]\.) ", own))


def test_only_who_waits_in_vain_for_the_server_hears_that_it_is_unreachable():
    for wait in say.Wait:
        _, fields, _ = split(say.waiting(5.0, 30.0, wait))
        assert ("unreachable" in fields["M"]) == (wait is say.Wait.AWAY)


@pytest.mark.parametrize("name", SERVERS_OWN)
def test_refusals_in_the_servers_own_words(name: str):
    kind, fields, rest = split(SERVERS_OWN[name]())
    assert (kind, fields["S"], rest) == (b"E", "FATAL", b"")


@pytest.mark.parametrize("name", NOTICES)
def test_notices_end_nothing(name: str):
    kind, fields, rest = split(NOTICES[name]())
    assert (kind, rest) == (b"N", b"")
    assert fields["S"] in ("NOTICE", "WARNING")


@pytest.mark.parametrize(
    ("said", "sqlstate", "message"),
    [
        (
            say.rolled_back("x.", FAILED),
            "40001",
            "transaction rolled back: link to the database was lost before commit",
        ),
        (
            say.doubt("server restarted"),
            "08007",
            "outcome unknown: link to the database was lost after the statement was sent",
        ),
        (say.done(), "RP001", "statement committed but its result was lost with the link"),
        (
            say.mid_result(3),
            "08006",
            "result interrupted: link to the database was lost after 3 rows",
        ),
        (
            say.state_lost("advisory locks"),
            "57P01",
            "terminating connection: link to the database was lost and session state cannot be"
            " rebuilt",
        ),
        (say.gone(30), "08006", "terminating connection: database unreachable for 30 s"),
        (say.gone(2.34), "08006", "terminating connection: database unreachable for 2.3 s"),
        (say.starting(1), "57P03", "terminating connection: database not available, waited 1 s"),
        (
            say.too_many_clients(9),
            "53300",
            "terminating connection: too many clients, 9 are connected",
        ),
        (say.cancelled(IDLE), "57014", "canceling statement due to user request"),
        (
            say.in_failed_transaction(),
            "25P02",
            "current transaction is aborted, commands ignored until end of transaction block",
        ),
        (say.password_failed(b"x"), "28P01", 'password authentication failed for user "x"'),
    ],
)
def test_the_contract(said: bytes, sqlstate: str, message: str):
    """Codes and messages of reference/postgres-replay.md, section 2.1: users grep for these."""
    _, fields, _ = split(said)
    assert (fields["C"], fields["M"]) == (sqlstate, message)


def test_status_goes_into_ready_for_query():
    assert say.rolled_back("x.", FAILED).endswith(m.ready_for_query(FAILED))
    assert say.rolled_back("x.", IDLE).endswith(m.ready_for_query(IDLE))
    assert say.in_failed_transaction().endswith(m.ready_for_query(FAILED))
    assert split(say.rolled_back("x.", None))[2] == b""


def test_doubt_takes_known_codes_only():
    with pytest.raises(AssertionError):
        say.doubt("x", "57P01")


def test_a_forbidden_phrase_in_a_message_is_our_bug():
    with pytest.raises(AssertionError):
        say._error(Reason.BUG, say._Text("XX000", "SSL error"), IDLE)


def test_a_cause_from_elsewhere_cannot_break_the_message():
    # Texts of the operating system and of servers end up here: drivers read them as detail only.
    cause = "server closed the connection\0"
    for said in (say.gone(1, cause), say.starting(1, cause), say.rolled_back(cause, IDLE)):
        assert "server closed the connection" in split(said)[1]["D"]
        assert "\0" not in split(said)[1]["D"]


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (
            "cannot connect to db:5432: refused",
            " The last attempt: cannot connect to db:5432: refused.",
        ),
        (say.last_words(LAST), f" {say.last_words(LAST)}"),
        ("", ""),
    ],
)
def test_what_the_last_attempt_met_ends_as_a_sentence(cause: str, sentence: str):
    assert split(say.starting(1, cause))[1]["D"] == f"Nothing was executed.{sentence}"
    waited = "What was waiting has changed no data."
    assert split(say.gone(1, cause))[1]["D"] == f"{waited}{sentence}"
    doubt = "A statement that waited may have changed data before its link died."
    assert split(say.gone(1, cause, in_doubt=True))[1]["D"] == f"{doubt}{sentence}"


def test_last_words_are_quoted_in_the_detail():
    _, fields, _ = split(say.doubt("server restarted", last=LAST))
    assert fields["D"] == (
        "The statement may have been executed, or not (server restarted). The server's last words:"
        ' FATAL 57P01 "terminating connection due to administrator command".'
    )


@pytest.mark.parametrize("fields", [None, {}])
def test_no_last_words(fields):
    assert say.last_words(fields) == ""


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"M": "x"}, 'The server\'s last words: ERROR without SQLSTATE "x".'),
        ({"S": "FATAL", "C": "1"}, 'The server\'s last words: FATAL 1 "".'),
        ({"V": "PANIC", "C": "2", "M": "a\n b\0c"}, 'The server\'s last words: PANIC 2 "a b c".'),
    ],
)
def test_last_words_of_an_odd_server(fields: dict[str, str], text: str):
    assert say.last_words(fields) == text


def test_last_words_are_bounded():
    flood = {"V": "V" * 9999, "C": "C" * 9999, "M": "M" * 9999}
    assert len(say.last_words(flood)) <= 400
    say.doubt("x", last=flood)

"""The conversation, driven by hand: both protocols, roles, transactions, errors, random bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import PeerProtocolError
from proxy.core.operator import Act, Outcome
from proxy.postgres.protocol import messages
from proxy.postgres.protocol.console import STATEMENTS_MAX, NeedClosed, Role
from proxy.postgres.protocol.console_command import ConsoleError
from proxy.postgres.protocol.console_show import MADE
from tests import wire
from tests.unit.postgres.protocol.console_kit import Client, act

READY, IN_TRANSACTION, FAILED = (b"Z\0\0\0\5" + status for status in (b"I", b"T", b"E"))


def kinds(answer: list[bytes]) -> str:
    return "".join(chr(one[0]) for one in answer)


def error(answer: list[bytes]) -> dict[str, str]:
    (found,) = (one for one in answer if one[:1] == b"E")
    return messages.error_fields(found[5:])


# -- the simple protocol


def test_show_in_the_simple_protocol() -> None:
    answer = Client().query("SHOW LISTS")
    assert kinds(answer) == "T" + "D" * 14 + "CZ"
    assert wire.rows(answer)[0] == (b"databases", b"2")
    assert answer[-2:] == [b"C\0\0\0\x09SHOW\0", READY]


def test_several_commands_and_an_error_among_them() -> None:
    answer = Client().query("SHOW STATE; SHOW nonsense; SHOW STATE")
    assert kinds(answer) == "TDDDCEZ"
    assert error(answer)["C"] == "42601"
    assert Client().query("")[0] == messages.empty_query()


def test_help_is_a_notice() -> None:
    answer = Client().query("show help")
    assert kinds(answer) == "NCZ"
    assert "KILL_CLIENT" in messages.error_fields(answer[0][5:])["D"]


@pytest.mark.parametrize("name", [*MADE, "stats", "totals", "routes", "incidents", "cache", "keys"])
def test_every_table_is_described_as_it_is_sent(name: str) -> None:
    client = Client()
    simple = client.query(f"SHOW {name.upper()}")
    extended = client.extended(f"show {name}")
    assert simple[0] == extended[2]  # the same description, before and after running
    assert wire.rows(simple) == wire.rows(extended)


def test_function_calls_and_copy_data() -> None:
    answer = Client().send(messages.message(b"F", b"\0\0\0\1\0\0\0\0\0\0"))
    assert kinds(answer) == "EZ"
    assert Client().send(messages.copy_data(b"x") + messages.copy_done()) == []


# -- the extended protocol


def test_show_in_the_extended_protocol() -> None:
    answer = Client().extended("SHOW LISTS", result_formats=[1])
    assert kinds(answer) == "12T" + "D" * 14 + "CZ"
    assert wire.rows(answer)[0] == (b"databases", b"\0\0\0\2")


def test_a_statement_can_be_described_before_it_runs() -> None:
    client = Client()
    answer = client.send(
        messages.parse("s", "KILL_CLIENT $1")
        + messages.describe(b"S", "s")
        + messages.parse("t", "select 1")
        + messages.describe(b"S", "t")
        + messages.parse("n", "")
        + messages.describe(b"S", "n")
        + messages.sync()
    )
    assert kinds(answer) == "1tn1tT1tnZ"
    assert answer[1] == messages.parameter_description([25])
    assert client.acts == []


def test_rows_in_pieces() -> None:
    client = Client()
    answer = client.send(
        messages.parse("", "SHOW LISTS")
        + messages.bind("p", "")
        + messages.execute("p", 10)
        + messages.execute("p", 10)
        + messages.execute("p", 10)
        + messages.sync()
        + messages.execute("p")
        + messages.sync()
    )
    assert kinds(answer) == "12" + "D" * 10 + "s" + "D" * 4 + "C" + "C" + "Z" + "EZ"


def test_an_error_skips_to_sync_and_the_session_goes_on() -> None:
    client = Client()
    answer = client.send(
        messages.parse("", "NONSENSE")
        + messages.bind("", "")
        + messages.execute("")
        + messages.sync()
        + messages.query("SHOW VERSION")
    )
    assert kinds(answer) == "EZTDCZ"


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (messages.bind("", "none"), "26000"),
        (messages.describe(b"S", "none"), "26000"),
        (messages.describe(b"P", "none"), "34000"),
        (messages.execute("none"), "34000"),
        (messages.parse("", "SHOW STATS; SHOW POOLS"), "42601"),
        (messages.parse("a", "SHOW STATS") * 2, "42P05"),
        (messages.parse("", "SHOW STATS") + messages.bind("p", "") * 2, "42P03"),
        (messages.parse("", "SHOW STATS") + messages.bind("", "", [b"x"]), "08P01"),
        (messages.parse("", "SHOW STATS") + messages.bind("", "", (), (), [1, 1]), "08P01"),
    ],
)
def test_what_the_server_would_refuse(data: bytes, sqlstate: str) -> None:
    assert error(Client().send(data + messages.sync()))["C"] == sqlstate


def test_statements_and_portals_are_bounded() -> None:
    client = Client()
    many = b"".join(messages.parse(f"s{n}", "SHOW STATS") for n in range(STATEMENTS_MAX + 1))
    assert error(client.send(many + messages.sync()))["C"] == "54000"
    closed = client.send(messages.close(b"S", "s0") + messages.parse("new", "") + messages.sync())
    assert kinds(closed) == "31Z"
    ports = b"".join(messages.bind(f"p{n}", "s1") for n in range(STATEMENTS_MAX + 1))
    assert error(client.send(ports + messages.sync()))["C"] == "54000"


def test_a_value_names_the_client_to_kill() -> None:
    client = Client()
    assert kinds(client.extended("KILL_CLIENT $1", b"17")) == "12nCZ"
    assert client.acts == [act(Act.KILL_CLIENT, None, 17)]
    assert error(client.extended("KILL_CLIENT $1", b"all"))["C"] == "22023"
    assert error(client.extended("KILL_CLIENT $1", None))["C"] == "22004"
    assert error(client.query("KILL_CLIENT $1"))["C"] == "42P02"


# -- control


@pytest.mark.parametrize(
    ("text", "asked", "tag"),
    [
        ("PAUSE", act(Act.PAUSE), "PAUSE"),
        ("pause main;", act(Act.PAUSE, "main"), "PAUSE"),
        ('RESUME "cache"', act(Act.RESUME, "cache"), "RESUME"),
        ("RECONNECT other", act(Act.RECONNECT, "other"), "RECONNECT"),
        ("KILL main", act(Act.KILL, "main"), "KILL"),
        ("KILL_CLIENT 19", act(Act.KILL_CLIENT, None, 19), "KILL_CLIENT"),
        ("RELOAD", act(Act.RELOAD), "RELOAD"),
        ("SHUTDOWN WAIT_FOR_SERVERS", act(Act.SHUTDOWN), "SHUTDOWN"),
        ("WAIT_CLOSE main", NeedClosed("main"), "WAIT_CLOSE"),
    ],
)
def test_control(text: str, asked: object, tag: str) -> None:
    client = Client()
    answer = client.query(text)
    assert client.acts == [asked]
    assert answer == [messages.command_complete(tag), READY]
    watcher = Client(Role.STATS)
    refused = error(watcher.query(text))
    assert (refused["C"], watcher.acts) == ("42501", [])
    assert "admin.users" in refused["H"]


def test_a_route_that_does_not_exist() -> None:
    client = Client()
    refused = error(client.query("PAUSE nope"))
    assert (refused["C"], client.acts) == ("3D000", [])
    assert "main" in refused["H"]
    assert error(client.query("SHOW POOLS nope"))["C"] == "3D000"


def test_what_came_of_it_is_told() -> None:
    done = Client(outcome=Outcome(True, "reloaded; admin waits for a restart", ["f.yaml:1:1: x"]))
    answer = done.query("RELOAD")
    assert kinds(answer) == "NCZ"
    assert messages.error_fields(answer[0][5:])["D"] == "f.yaml:1:1: x"
    failed = Client(outcome=Outcome(False, "mistakes", ["f.yaml:1:1: a", "f.yaml:2:1: b"]))
    fields = error(failed.query("RELOAD"))
    assert (fields["C"], fields["D"]) == ("F0000", "f.yaml:1:1: a\nf.yaml:2:1: b")
    assert error(failed.query("PAUSE"))["C"] == "55000"
    cancelled = Client(outcome=ConsoleError("57014", "canceled"))
    assert error(cancelled.query("PAUSE"))["C"] == "57014"
    assert kinds(cancelled.query("SHOW VERSION")) == "TDCZ"


# -- what is shown of what


def test_a_name_narrows_down() -> None:
    client = Client()

    def routes(text: str) -> set[bytes | None]:
        return {row[2] for row in wire.rows(client.query(text))}

    assert routes("SHOW CLIENTS") == {b"main"}
    assert routes("SHOW CLIENTS cache") == {b"cache"}
    assert routes("SHOW SERVERS ALL") == {b"main", b"cache"}
    assert [row[0] for row in wire.rows(client.query("SHOW DATABASES other"))] == [b"other"]
    assert [row[0] for row in wire.rows(client.query("SHOW STATS main"))] == [b"main"]
    assert wire.rows(client.query("SHOW INCIDENTS other")) == []


# -- transactions


def test_the_transaction_a_driver_believes_in() -> None:
    client = Client()
    assert client.query("BEGIN")[-1] == IN_TRANSACTION
    assert client.query("SHOW VERSION")[-1] == IN_TRANSACTION
    assert client.query("NONSENSE")[-1] == FAILED
    refused = client.query("RELOAD")
    assert (error(refused)["C"], refused[-1], client.acts) == ("25P02", FAILED, [])
    assert client.query("COMMIT") == [messages.command_complete("ROLLBACK"), READY]
    assert client.query("begin; commit")[-1] == READY


def test_good_bye_and_nonsense() -> None:
    client = Client()
    assert client.send(messages.terminate()) == []
    assert client.conversation.over
    with pytest.raises(PeerProtocolError):
        Client().send(messages.message(b"p", b"secret\0"))
    with pytest.raises(PeerProtocolError):
        Client().send(messages.message(b"Q", b"SHOW STATS\0more\0"))


MESSAGES = st.one_of(
    st.tuples(st.sampled_from("QPBDECSHXFdcf"), st.binary(max_size=60)),
    st.builds(lambda text: ("Q", text.encode().replace(b"\0", b"") + b"\0"), st.text(max_size=60)),
    st.sampled_from(
        [
            ("P", messages.parse("", "SHOW CLIENTS $1")[5:]),
            ("B", messages.bind("", "", [b"main"])[5:]),
            ("D", messages.describe(b"P", "")[5:]),
            ("E", messages.execute("", 2)[5:]),
            ("S", b""),
        ]
    ),
)


@given(st.lists(MESSAGES, max_size=8))
def test_random_messages_are_answered_or_end_the_session(sent: list[tuple[str, bytes]]) -> None:
    client = Client()
    for letter, body in sent:
        try:
            answer = client.send(messages.message(letter.encode(), body))
        except PeerProtocolError:
            return
        if letter in "QFS":
            assert answer[-1][:1] == b"Z"
        assert kinds(answer).count("Z") == (letter in "QFS")

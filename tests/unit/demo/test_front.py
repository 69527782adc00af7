"""The proxy of the demo as seen from outside: its settings file, its ports, its log."""

import json
import socket
from collections.abc import Iterator

import pytest

from proxy.demo.front import POSTGRES_PORT, Front, Ports
from proxy.settings.load import load_text


@pytest.fixture
def front() -> Iterator[Front]:
    made = Front({"postgres": [{"upstream": "postgresql://a:b@127.0.0.1:1/app"}]}, Ports(1, 2, 3))
    yield made
    made.close()


def line(event: str, **fields: object) -> bytes:
    return json.dumps({"level": "info", "event": event, **fields}).encode() + b"\n"


def test_the_settings_file_is_read_as_it_was_meant(front: Front) -> None:
    text = front.log.with_name("backstay.yaml").read_text()
    assert load_text(text, "demo", {}).postgres[0].upstream.password == "b"
    mode = front.log.with_name("backstay.yaml").stat().st_mode
    assert mode & 0o077 == 0


def test_look_counts_events_and_what_was_run_again(front: Front) -> None:
    front.log.write_bytes(
        line("link_lost", verdicts=["resend", "doubt"])
        + line("restored")
        + b"Traceback (most recent call last):\n"
        + line("link_lost", verdicts=["read_only"])
        + line("link_lost", verdicts=[])
    )
    counts = front.look()
    assert counts["link_lost"] == 3
    assert counts["restored"] == 1
    assert counts["run_again"] == 2


def test_look_reads_on_where_it_stopped(front: Front) -> None:
    whole, part = line("restored"), line("restored")
    front.log.write_bytes(whole + part[:9])
    assert front.look()["restored"] == 1
    with front.log.open("ab") as log:
        log.write(part[9:])
    assert front.look()["restored"] == 2
    assert front.look()["restored"] == 2


def test_usual_ports_unless_taken() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", POSTGRES_PORT))
        except OSError:
            pass  # somebody else has it, which is as good
        else:
            taken.listen()
        assert Ports.choose(usual=True).postgres != POSTGRES_PORT


def test_any_ports_differ() -> None:
    ports = Ports.choose(usual=False)
    assert len({ports.postgres, ports.redis, ports.admin}) == 3
    assert POSTGRES_PORT not in {ports.postgres, ports.redis, ports.admin}


def test_no_dashboard_where_nobody_answers(front: Front) -> None:
    assert front.dashboard() is None

"""The log: formats, levels, journald, redaction, a stream that blocks or is gone."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import structlog

from proxy.core.events import Events
from proxy.core.reasons import Reason
from proxy.observe import log
from proxy.observe.log import LogOptions, configure, events, flush, get_logger
from proxy.settings.urls import parse_postgres_url


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    """Leave structlog, logging and warnings as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    flush()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def sink(stream: io.StringIO, **options: Any) -> Events:
    configure(LogOptions(**{"format": "json", **options}), stream, env={})
    return events(get_logger())


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    flush()
    return [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]


# ---- formats ------------------------------------------------------------------------------------


def test_json(stream: io.StringIO) -> None:
    sink(stream)(
        "link_lost", level="warning", route="main", reason=Reason.UPSTREAM_EOF, after_s=1.5
    )
    (line,) = lines(stream)
    assert list(line)[:3] == ["ts", "level", "event"]
    stamp = line.pop("ts")
    assert stamp.endswith("Z")
    assert "T" in stamp
    assert line == {
        "level": "warning",
        "event": "link_lost",
        "route": "main",
        "reason": "upstream_eof",
        "after_s": 1.5,
    }


def test_a_line_is_a_line(stream: io.StringIO) -> None:
    sink(stream)("login", user="a\nb\r\x1b[31m", other="ü\u2028")
    flush()
    assert stream.getvalue().count("\n") == 1
    assert lines(stream)[0]["user"] == "a\nb\r\x1b[31m"


def test_console(stream: io.StringIO) -> None:
    sink(stream, format="console")("login", user="a\x1b[31mb", reason=Reason.DRAIN)
    flush()
    text = stream.getvalue()
    assert "[info     ] login" in text
    assert r"user='a\\x1b[31mb'" in text or r"user=a\x1b[31mb" in text
    assert "\x1b" not in text  # neither colors nor the client's escape


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("kind", "env", "colors", "is_json"),
    [
        (Terminal, {}, True, False),
        (Terminal, {"NO_COLOR": "1"}, False, False),
        (io.StringIO, {}, False, True),
    ],
)
def test_auto(
    kind: Callable[[], io.StringIO], env: dict[str, str], colors: bool, is_json: bool
) -> None:
    stream = kind()
    configure(LogOptions(), stream, env)
    get_logger().info("x")
    flush()
    assert ("\x1b[" in stream.getvalue()) is colors
    assert stream.getvalue().startswith("{") is is_json


def test_json_on_a_terminal_when_asked() -> None:
    stream = Terminal()
    configure(LogOptions(format="json"), stream, {})
    get_logger().info("x")
    flush()
    assert json.loads(stream.getvalue())["event"] == "x"


def test_levels(stream: io.StringIO) -> None:
    record = sink(stream, level="warning")
    for level in ("debug", "info", "warning", "error"):
        record(level, level=level)
    assert [line["event"] for line in lines(stream)] == ["warning", "error"]


def test_reload_changes_loggers_that_exist(stream: io.StringIO) -> None:
    record = sink(stream, level="error")
    record("first")
    configure(LogOptions(level="debug", format="json"), stream, {})
    record("second", level="debug")
    assert [line["event"] for line in lines(stream)] == ["second"]


def test_journald(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        status = os.fstat(stream.fileno())
        env = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        configure(LogOptions(level="debug"), stream, env)
        record = events(get_logger())
        for level in ("debug", "info", "warning", "error"):
            record("x", level=level)
        flush()
        stream.seek(0)
        text = stream.read().splitlines()
    assert [line[:3] for line in text] == ["<7>", "<6>", "<4>", "<3>"]
    assert json.loads(text[0][3:]) == {"level": "debug", "event": "x"}


def test_journald_prefixes_every_line_of_a_traceback(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        status = os.fstat(stream.fileno())
        env = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        configure(LogOptions(format="console"), stream, env)
        try:
            raise ValueError("boom")
        except ValueError:
            get_logger().error("bug", exc_info=True)
        flush()
        stream.seek(0)
        text = stream.read().splitlines()
    assert len(text) > 3
    assert all(line.startswith("<3>") for line in text)


def test_another_journal_stream_is_not_ours(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        configure(LogOptions(), stream, {"JOURNAL_STREAM": "1:2"})
        get_logger().info("x")
        flush()
        stream.seek(0)
        assert "ts" in json.loads(stream.read())


# ---- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWORD",
        "db_password",
        "passwd",
        "passphrase",
        "secret",
        "client_secret",
        "token",
        "authorization",
        "scram_verifier",
        "private_key",
        "client_key",
        "cancel_key",
        "bind_values",
    ],
)
def test_secret_names(stream: io.StringIO, name: str) -> None:
    sink(stream)("x", **{name: "hunter2"}, nested={"deep": [{name: 12345}]})
    assert lines(stream)[0][name] == "***"
    assert lines(stream)[0]["nested"] == {"deep": [{name: "***"}]}


def test_whether_there_is_a_secret_is_none() -> None:
    stream = io.StringIO()
    sink(stream)("x", password=None, has_password=True)
    assert (lines(stream)[0]["password"], lines(stream)[0]["has_password"]) == (None, True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:hunter2@h/db", "postgresql://u:***@h/db"),
        (
            "cannot reach rediss://:hunter2@h:1, giving up",
            "cannot reach rediss://:***@h:1, giving up",
        ),
        ("postgres://u:hun:ter@2@h", "postgres://u:***@h"),
        ("host=h password=hunter2 user=u", "host=h password=*** user=u"),
        ("password = 'hunter 2\\' x' user=u", "password = *** user=u"),
        ("h/db?sslpassword=hunter2&x=1", "h/db?sslpassword=***&x=1"),
        ("http://h:80/x", "http://h:80/x"),
        ("a=b", "a=b"),
    ],
)
def test_secrets_inside_texts(stream: io.StringIO, text: str, shown: str) -> None:
    sink(stream)("x", error=text, many=(text,))
    assert lines(stream)[0]["error"] == shown
    assert lines(stream)[0]["many"] == [shown]


def test_secrets_in_tracebacks(stream: io.StringIO) -> None:
    sink(stream)
    try:
        raise ValueError("postgresql://u:hunter2@h/db")
    except ValueError:
        get_logger().error("bug", exc_info=True)
    (line,) = lines(stream)
    assert "Traceback" in line["exception"]
    assert "u:***@h" in line["exception"]
    # The raising line itself is source text, which holds the literal here.
    assert line["exception"].splitlines()[-1] == "ValueError: postgresql://u:***@h/db"


def test_traffic_and_objects(stream: io.StringIO) -> None:
    class Color(StrEnum):
        RED = "red"

    upstream = parse_postgres_url("postgresql://u:hunter2@h/db")
    sink(stream)(
        "x", data=b"hunter2", view=memoryview(b"ab"), up=upstream, path=Path("/a"), c=Color.RED
    )
    (line,) = lines(stream)
    assert (line["data"], line["view"], line["path"], line["c"]) == (
        "<7 bytes>",
        "<2 bytes>",
        "/a",
        "red",
    )
    assert "hunter2" not in line["up"]


def test_sql_only_when_asked(stream: io.StringIO) -> None:
    sink(stream)("replay", sql="select 1")
    sink(stream, sql=True)("replay", sql="select 2")
    first, second = lines(stream)
    assert "sql" not in first
    assert second["sql"] == "select 2"


def test_nesting_is_bounded(stream: io.StringIO) -> None:
    loop: list[Any] = []
    loop.append(loop)
    sink(stream)("x", loop=loop)
    assert lines(stream)[0]["loop"] == [[[[["…"]]]]]


# ---- never in the way ---------------------------------------------------------------------------


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("hunter2")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"thing": Unspeakable()}, "RuntimeError"),
        ({"event": "twice"}, "TypeError"),
        ({"level": "nope"}, "KeyError"),
    ],
)
def test_an_event_without_a_text_is_named(
    stream: io.StringIO, fields: dict[str, Any], error: str
) -> None:
    sink(stream)("odd", **fields)
    (line,) = lines(stream)
    assert line["event"] == "event_not_written"
    assert (line["name"], line["error"]) == ("odd", error)


class Stuck(io.StringIO):
    """A pipe that nobody reads until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.go.wait(30)
        return super().write(text)


def test_a_stuck_stream_holds_nobody_up() -> None:
    stream = Stuck()
    record = sink(stream)
    try:
        record("first")
        assert stream.reached.wait(10)
        for number in range(log.LINES_MAX + 7):
            record("x", number=number)
    finally:
        stream.go.set()
    flush()
    record("last")
    found = lines(stream)
    assert [line["event"] for line in found[:2]] == ["first", "log_lines_dropped"]
    assert found[1]["lines"] == 7
    assert len(found) == log.LINES_MAX + 3
    assert found[-1]["event"] == "last"


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_stream_that_is_gone(stream: io.StringIO) -> None:
    sink(Gone())("x")
    flush()
    sink(stream)("still here")
    assert lines(stream)[0]["event"] == "still here"


def test_one_thread_per_stream(stream: io.StringIO) -> None:
    before = threading.active_count()
    for _ in range(5):
        sink(stream)("x")
    flush()
    assert threading.active_count() == before + 1


def test_what_was_logged_is_written_before_the_process_ends() -> None:
    code = (
        "from proxy.observe.log import *;"
        "configure(LogOptions(format='json'));"
        "[events(get_logger())('x', n=n) for n in range(500)]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [json.loads(line)["n"] for line in done.stderr.splitlines()] == list(range(500))


# ---- libraries ----------------------------------------------------------------------------------


def test_libraries_are_heard(stream: io.StringIO) -> None:
    sink(stream)
    library = logging.getLogger("asyncio")
    library.info("chatter")
    library.warning("slow %s", "callback")
    library.error("postgresql://u:hunter2@h failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old thing", UserWarning, stacklevel=1)
    found = lines(stream)
    assert [(line["level"], line["logger"]) for line in found] == [
        ("warning", "asyncio"),
        ("error", "asyncio"),
        ("warning", "py.warnings"),
    ]
    assert found[0]["message"] == "slow callback"
    assert found[1]["message"] == "postgresql://u:***@h failed"
    assert "old thing" in found[2]["message"]


def test_configuring_again_does_not_double_libraries(stream: io.StringIO) -> None:
    sink(stream)
    sink(stream)
    logging.getLogger("asyncio").warning("once")
    assert len(lines(stream)) == 1

"""The log: one event a line on stderr, as JSON or for people.

Owns the format, the levels and the last line of defence against secrets. Does not know what events
there are; runtimes see it only as `proxy.core.events.Events`. A full pipe behind stderr must not
stop the proxy: lines go through a bounded queue to one thread, and lines that do not fit are
counted, not waited for.
"""

import atexit
import json
import logging
import os
import queue
import re
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TextIO

import structlog

from proxy.core.events import Events

LINES_MAX = 10_000
FLUSH_S_MAX = 2.0
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SYSLOG = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)

Event = MutableMapping[str, Any]

_least = 0  # the level of what is written, at least


@dataclass(frozen=True, slots=True)
class LogOptions:
    """level: debug, info, warning, error. format: auto, json, console. sql: keep SQL texts."""

    level: str = "info"
    format: str = "auto"
    sql: bool = False


def configure(
    options: LogOptions,
    stream: TextIO | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Make every logger write to `stream` (stderr) as the options say. A reload calls it again.

    Under journald (JOURNAL_STREAM names stderr) lines carry their level as `<N>` and no time: the
    journal has its own.
    """
    stream = stream or sys.stderr
    env = os.environ if env is None else env
    journal = _is_journal(stream, env)
    terminal = stream.isatty()
    console = options.format == "console" or (options.format == "auto" and terminal)
    colors = terminal and not env.get("NO_COLOR")
    structlog.configure(
        processors=[
            *([] if options.sql else [_drop_sql]),
            _flatten_exception,
            _redact,
            _add_level,
            *([] if journal else [structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts")]),
            _Render(_console(colors) if console else _json, journal),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[options.level]),
        logger_factory=lambda *_: _writer_of(stream),
        cache_logger_on_first_use=False,
    )
    global _least
    _least = LEVELS[options.level]
    _forward_libraries(_least)


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """A logger that follows every later `configure`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


def events(logger: structlog.typing.FilteringBoundLogger) -> Events:
    """A sink for the runtimes' events. Never raises: an event that has no text is only named."""

    def record(event: str, /, *, level: str = "info", **fields: object) -> None:
        try:
            number = LEVELS[level]
            if number >= _least:  # structlog says the same, after 10 µs
                logger.log(number, event, **fields)
        except Exception as error:
            # A field of ours that has no text, or a level that does not exist: our bug, yet a
            # session must not end because its story could not be told.
            logger.error("event_not_written", name=str(event), error=type(error).__name__)

    return record


def flush() -> None:
    """Wait until what was logged is written, 2 s at most."""
    for writer in list(_writers.values()):
        writer.flush(FLUSH_S_MAX)


def lines_dropped() -> int:
    """How many lines did not fit the queue, since the start."""
    return sum(writer.dropped_total for writer in _writers.values())


def _is_journal(stream: TextIO, env: Mapping[str, str]) -> bool:
    """systemd.exec(5), $JOURNAL_STREAM: `device:inode` of the stream when the journal reads it."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False  # no file behind it
    return env.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


# ---- what an event goes through -----------------------------------------------------------------

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|authorization|verifier"
    r"|(private|client|server|stored|cancel)_?key|bind_values|parameters",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/?#:@]*):[^\s/]*@", re.IGNORECASE)
_PAIR_PASSWORD = re.compile(r"\b(ssl)?password(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)
_HIDDEN = "***"
_DEPTH_MAX = 5
_CONTROLS = [code for code in (*range(32), *range(127, 160)) if code not in (9, 10)]
_VISIBLE = {code: f"\\x{code:02x}" for code in _CONTROLS}


def _drop_sql(_logger: object, _method: str, event: Event) -> Event:
    event.pop("sql", None)
    return event


def _flatten_exception(_logger: object, _method: str, event: Event) -> Event:
    """`exc_info` as text, before the redaction sees it."""
    return structlog.processors.format_exc_info(None, "", event)


def _redact(_logger: object, _method: str, event: Event) -> Event:
    """The last line of defence: nothing that looks like a secret should have come this far."""
    return {name: _hide(name, value, 0) for name, value in event.items()}


def _hide(name: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_NAME.search(name):
        return _HIDDEN
    if isinstance(value, str):
        text = _URL_PASSWORD.sub(rf"\1:{_HIDDEN}@", value) if "://" in value else value
        return _PAIR_PASSWORD.sub(rf"\1password\2{_HIDDEN}", text) if "=" in text else text
    if isinstance(value, int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"  # traffic: never shown
    if depth >= _DEPTH_MAX:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): _hide(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hide("", item, depth + 1) for item in value]
    return _hide("", str(value), depth)


def _add_level(_logger: object, method: str, event: Event) -> Event:
    event["level"] = method
    return event


def _json(event: Event) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _console(colors: bool) -> Callable[[Event], str]:
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors,
        timestamp_key="ts",
        pad_event_to=24,
        exception_formatter=structlog.dev.plain_traceback,
    )

    def text_of(event: Event) -> str:
        # A client chooses its user name: it must not write to the operator's terminal.
        plain = {k: v.translate(_VISIBLE) if isinstance(v, str) else v for k, v in event.items()}
        return str(renderer(None, "", plain))

    return text_of


class _Render:
    """The event as text: time, level and name first; under journald `<N>` before each line."""

    def __init__(self, text_of: Callable[[Event], str], journal: bool) -> None:
        self._text_of = text_of
        self._journal = journal

    def __call__(self, _logger: object, method: str, event: Event) -> str:
        first = {name: event.pop(name) for name in ("ts", "level", "event") if name in event}
        text = self._text_of({**first, **event})
        if not self._journal:
            return text
        prefix = f"<{_SYSLOG.get(method, 6)}>"
        return "\n".join(prefix + line for line in text.split("\n"))


# ---- the thread that writes ---------------------------------------------------------------------


class _Writer:
    """Lines to a stream through a bounded queue. Each method of a logger does the same: queue."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.Queue[str] = queue.Queue(LINES_MAX)
        self._dropped = 0
        self.dropped_total = 0
        self._thread = threading.Thread(target=self._run, name="backstay-log", daemon=True)
        self._thread.start()

    def msg(self, line: str) -> None:
        """Queue the line; count it as dropped when the queue is full."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1
            self.dropped_total += 1

    debug = info = warning = warn = error = critical = exception = log = msg

    def flush(self, timeout_s: float) -> None:
        """Wait until the queue is written, or for the timeout."""
        with self._lines.all_tasks_done:
            done = self._lines.all_tasks_done
            done.wait_for(lambda: not self._lines.unfinished_tasks, timeout_s)

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            dropped, self._dropped = self._dropped, 0
            try:
                if dropped:
                    self._stream.write(_LINES_DROPPED % dropped)
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                pass  # stderr is gone: there is nowhere to say so
            finally:
                self._lines.task_done()


_LINES_DROPPED = '{"level":"warning","event":"log_lines_dropped","lines":%d}\n'
_writers: dict[int, _Writer] = {}


def _writer_of(stream: TextIO) -> _Writer:
    """The stream's writer: one thread per stream, however often the log is configured."""
    writer = _writers.get(id(stream))
    if writer is None or writer._stream is not stream:
        writer = _writers[id(stream)] = _Writer(stream)
    return writer


atexit.register(flush)


# ---- libraries that use logging -----------------------------------------------------------------


class _Forward(logging.Handler):
    """Records of other packages (asyncio, aiohttp) as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        try:
            get_logger().log(
                LEVELS[level],
                "library",
                logger=record.name,
                message=record.getMessage(),
                exc_info=record.exc_info,
            )
        except Exception:
            self.handleError(record)


def _forward_libraries(level: int) -> None:
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, _Forward)] + [_Forward()]
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)

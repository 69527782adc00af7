"""A small world for the console's tests: real reports and rows, and a client that talks to it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from proxy.core.histogram import Histogram
from proxy.core.operator import Act, Detail, LinkRow, Outcome, SessionRow
from proxy.core.report import (
    CacheReport,
    Incident,
    KeyCount,
    Latency,
    PoolReport,
    PostgresReport,
    RedisReport,
    Report,
    WorkerReport,
)
from proxy.postgres.protocol import console_stats, messages
from proxy.postgres.protocol.console import (
    Answer,
    Conversation,
    Need,
    NeedAct,
    NeedClosed,
    NeedFacts,
    Role,
)
from proxy.postgres.protocol.console_answers import Myself
from proxy.postgres.protocol.console_command import ConsoleError
from proxy.postgres.protocol.console_show import Facts

NOW_S = 1_800_000_000.0
ME = Myself(user="ops", database="backstay", pid=4711, version="9.9.9", application="psql")


def histogram(*seconds: float) -> Histogram:
    made = Histogram()
    for one in seconds:
        made.observe(one)
    return made


def pool(user: str, database: str, **numbers: float) -> PoolReport:
    return PoolReport(user, database, **numbers)  # type: ignore[arg-type]


def report() -> Report:
    """Two PostgreSQL routes, one of them paused, and a Redis route; an incident that goes on."""
    main = PostgresReport(
        name="main",
        listen=["127.0.0.1:6432"],
        upstream=["db1:5432", "db2:5433"],
        state="up",
        clients=7,
        clients_max=100,
        waiting=2,
        waiting_max=50,
        pools=[
            pool("app", "shop", sessions_active=1, sessions_idle=2, links_active=3, links_max=20),
            pool("app", "crm", sessions_waiting=2, links_idle=1, longest_wait_s=1.25, links_max=20),
            pool("etl", "shop", sessions_active=2, links_active=2, links_opening=1, links_max=20),
        ],
        counts={"clients": 10, "restores": 3, "units": 1000, "bytes_sent": 9000},
        losses={"upstream_eof": 3},
        errors={"rolled_back": 1},
        latency=Latency(server=histogram(0.001, 0.003), wait=histogram(0.5)),
    )
    other = PostgresReport(name="other", state="paused", upstream=["/run/db/.s.PGSQL.5432"])
    cache = CacheReport(
        enabled=True,
        entries=4,
        bytes=400,
        max_bytes=1000,
        hits=75,
        misses=25,
        bypassed={"write": 2, "none": 0},
        top_keys=[KeyCount("user:*", 9)],
        missing_keys=[KeyCount("gone:*", 3)],
    )
    redis = RedisReport(name="cache", links={"data": 2, "tracking": 1}, clients=1, cache=cache)
    incident = Incident(
        id="i1",
        route="main",
        kind="postgres",
        reason="upstream_eof",
        upstream="db1:5432",
        last_words="",
        started_s=NOW_S - 60,
        losses=3,
        replayed={"RO": 2},
        errors={"40001": 1},
    )
    worker = WorkerReport(number=0, pid=77, started_s=NOW_S - 100, rss_bytes=1 << 32, cpu_s=1.5)
    return Report(
        version="9.9.9",
        workers=[worker],
        postgres=[main, other],
        redis=[redis],
        incidents=[incident],
    )


def session_row(number: int, **changes: object) -> SessionRow:
    values: dict[str, object] = {
        "id": number,
        "kind": "postgres",
        "route": "main",
        "user": "app",
        "database": "shop",
        "state": "active",
        "address": "10.0.0.9",
        "port": 40000,
        "application": "web",
        "connected_s": NOW_S - 10,
        "waited_s": 0.0,
        "link": 5,
        "tls": "",
    }
    return SessionRow(**(values | changes))  # type: ignore[arg-type]


def link_row(number: int, **changes: object) -> LinkRow:
    values: dict[str, object] = {
        "id": number,
        "kind": "postgres",
        "route": "main",
        "user": "app",
        "database": "shop",
        "state": "active",
        "address": "10.0.0.1",
        "port": 5432,
        "local_address": "10.0.0.2",
        "local_port": 50000,
        "opened_s": NOW_S - 10,
        "used_s": NOW_S - 1,
        "pid": 815,
        "session": 17,
        "tls": "TLSv1.3/TLS_AES_256_GCM_SHA384",
    }
    return LinkRow(**(values | changes))  # type: ignore[arg-type]


def detail() -> Detail:
    return Detail(
        [
            session_row(17),
            session_row(18, state="waiting", waited_s=2.5, link=0),
            session_row(19, kind="redis", route="cache", database="0", state="idle", link=0),
        ],
        [
            link_row(5, stale=True),
            link_row(6, state="asking", session=0),
            link_row(7, kind="redis", route="cache", state="idle", session=0),
        ],
    )


SETTINGS = [
    ("postgres.main.pool.size", "25", "20", False),
    ("postgres.main.pool.warm", "2", "1", False),
    ("log.level", "debug", "info", True),
]


def facts(averages: console_stats.Averages | None = None, now_s: float = NOW_S) -> Facts:
    made = report()
    kept = averages or console_stats.Averages()
    return Facts(made, detail(), SETTINGS, console_stats.collected(made, kept, now_s, 16), now_s)


def shown(columns: Iterable[object], row: Iterable[object]) -> dict[str, object]:
    """A row by the names of its columns."""
    return {column.name: v for column, v in zip(columns, row, strict=True)}  # type: ignore[attr-defined]


Meet = Callable[[Need], Answer]


@dataclass
class Client:
    """Talks to a Conversation. `acts`: what was asked for; `outcome`: what comes of it."""

    role: Role = Role.ADMIN
    acts: list[Need] = field(default_factory=list)
    outcome: Outcome | ConsoleError = field(default_factory=lambda: Outcome(True, ""))

    def __post_init__(self) -> None:
        self.conversation = Conversation(ME, self.role)

    def send(self, data: bytes) -> list[bytes]:
        """What the server answers to these messages, message by message."""
        out = b""
        while data:
            size = int.from_bytes(data[1:5]) + 1
            out += b"".join(self._handle(data[0], data[5:size]))
            data = data[size:]
        return split(out)

    def _handle(self, kind: int, body: bytes) -> Iterable[bytes]:
        steps = self.conversation.handle(kind, body)
        answer: Answer = None
        failure: ConsoleError | None = None
        while True:
            try:
                step = steps.throw(failure) if failure else steps.send(answer)
            except StopIteration:
                return
            answer = failure = None
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, NeedFacts):
                answer = facts()
            else:
                assert isinstance(step, NeedAct | NeedClosed)
                self.acts.append(step)
                if isinstance(self.outcome, ConsoleError):
                    failure = self.outcome
                elif isinstance(step, NeedAct):
                    answer = self.outcome

    def query(self, text: str) -> list[bytes]:
        return self.send(messages.query(text))

    def extended(self, text: str, *values: bytes | None, **options: object) -> list[bytes]:
        """Parse, Bind, Describe portal, Execute, Sync."""
        return self.send(
            messages.parse("", text)
            + messages.bind("", "", values, **options)  # type: ignore[arg-type]
            + messages.describe(b"P", "")
            + messages.execute("")
            + messages.sync()
        )


def split(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = int.from_bytes(data[1:5]) + 1
        assert len(data) >= size, "half a message"
        found.append(data[:size])
        data = data[size:]
    return found


def act(what: Act, route: str | None = None, number: int = 0) -> NeedAct:
    return NeedAct(what, route, number)

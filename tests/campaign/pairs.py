"""Two servers of a kind, of which one follows the other: failover as operators and managers do it.

PostgreSQL: every commit waits for the standby (synchronous_standby_names = '*', always), so what
was acknowledged is on the server that is promoted, whatever became of the old one. Redis: FAILOVER,
which hands over when the replica has everything; its replication is asynchronous otherwise, and
would lose acknowledged writes with or without a proxy.
"""

import shutil
import time
from collections.abc import Callable

from proxy.demo.certificates import TlsFiles
from proxy.demo.child import ServerError
from proxy.demo.servers import PostgresOptions, PostgresServer, RedisOptions, RedisServer, Stop

FOLLOWS_S_MAX = 30.0
POLL_S = 0.01

# Durable: whatever kills a server, what was acknowledged stays. On both, as both become primary.
DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_standby_names": "*",
    "wal_retrieve_retry_interval": "100ms",
    "wal_keep_size": "256MB",
    "max_connections": "120",
}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll; ServerError if it does not come true."""
    end_s = time.monotonic() + FOLLOWS_S_MAX
    while not condition():
        if time.monotonic() > end_s:
            raise ServerError(f"{what}: not within {FOLLOWS_S_MAX} s")
        time.sleep(POLL_S)


class PostgresPair:
    """A primary and its synchronous standby."""

    def __init__(self, tls: TlsFiles) -> None:
        options = PostgresOptions(settings=DURABLE, tls=tls)
        self.servers = (PostgresServer(options), PostgresServer(options))
        self.primary, self.standby = self.servers

    def start(self, prepare: Callable[[PostgresServer], None]) -> None:
        """Create both; `prepare` fills the primary before the standby is copied from it."""
        names = self.primary.settings.pop("synchronous_standby_names")
        self.primary.create().start()
        prepare(self.primary)
        self.primary.settings["synchronous_standby_names"] = names
        self.primary.restart()
        self._follow()

    def restart(self, how: Stop) -> None:
        """The primary goes away and comes back as what it was."""
        self.primary.restart(how)
        self._wait_for_standby()

    def fail_over(self, how: Stop | None) -> None:
        """The primary goes and the standby is promoted; then the old one follows the new one.

        None: the old one stops moving, as after a split of the network, and is ended ("fenced")
        only when the new one serves.
        """
        self._wait_for_standby()
        if how is None:
            self.primary.freeze()
        else:
            self.primary.stop(how)
        self.standby.promote()
        if how is None:
            self.primary.stop(Stop.KILL)
        self.primary, self.standby = self.standby, self.primary
        shutil.rmtree(self.standby.data)
        self._follow()

    def close(self) -> None:
        """Both, with their data."""
        for server in self.servers:
            server.close()

    def _follow(self) -> None:
        self.standby.create_standby_of(self.primary).start()
        self._wait_for_standby()

    def _wait_for_standby(self) -> None:
        query = (
            "select 1 from pg_stat_replication where sync_state = 'sync' and state = 'streaming'"
        )
        wait_until(lambda: bool(self.primary.sql(query)), "the standby follows")


class RedisPair:
    """A primary and its replica. Who wants a service address that moves is told by `moved`."""

    def __init__(self, tls: TlsFiles | None) -> None:
        options = RedisOptions(persistent=True, tls=tls, settings={"repl-diskless-sync-delay": "0"})
        self.servers = (RedisServer(options), RedisServer(options))
        self.primary, self.replica = self.servers
        self.moved: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Start both, empty."""
        for server in self.servers:
            server.start()
        with self.replica.connect() as direct:
            direct.replicaof("127.0.0.1", self.primary.port)
        self._wait_for_replica()

    def restart(self, *, kill: bool) -> None:
        """The primary goes away and comes back as what it was."""
        self.primary.restart(kill=kill)

    def fail_over(self) -> None:
        """The replica takes over when it has all; the old primary, alive, refuses writes."""
        self._wait_for_replica()
        with self.primary.connect() as old:
            old.execute_command("FAILOVER", "TO", "127.0.0.1", self.replica.port)
            wait_until(lambda: old.role()[0] != b"master", "the old primary follows")
        self.primary, self.replica = self.replica, self.primary
        self.moved()

    def close(self) -> None:
        """Both, with their data."""
        for server in self.servers:
            server.close()

    def _wait_for_replica(self) -> None:
        with self.primary.connect() as direct:

            def follows() -> bool:
                found = direct.info("replication")
                one = found.get("slave0")
                return bool(one) and one["state"] == "online" and one["lag"] <= 1

            wait_until(follows, "the replica follows")


def addresses(hosts: list[int]) -> str:
    """The hosts of a libpq URL, in that order."""
    return ",".join(f"127.0.0.1:{port}" for port in hosts)

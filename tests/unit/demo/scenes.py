"""A scene without servers, for those who show and judge one."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from proxy.demo.cache_half import CacheHalf
from proxy.demo.front import Ports
from proxy.demo.ledger import balance
from proxy.demo.play import Options, Scene
from proxy.demo.workload import Side


def scene(**options: Any) -> Scene:
    """Ten seconds in: three strikes, 5 direct errors, none through the proxy."""
    direct = Side("direct", "postgresql://direct")
    through = Side("backstay", "postgresql://app@127.0.0.1:6432/app")
    for side in (direct, through):
        side.tally.statements, side.tally.requests = 400, 120
        side.tally.acknowledged = {1, 2}
    for _ in range(5):
        direct.tally.failed("SSL connection has been closed unexpectedly", "")
    striker = SimpleNamespace(
        done=Counter({"reset": 2, "server restart": 1}), skipped=[], last="reset", links_cut=24
    )
    front = SimpleNamespace(log=Path("/nowhere/backstay.log"), ports=Ports(6432, 6380, 9127))
    cache = CacheHalf(1)
    cache.through.tally.requests = 10
    made = Scene(
        options=Options(**{"seconds": 10.0, **options}),
        server=cast("Any", SimpleNamespace(bin=Path("/nowhere"))),
        version="PostgreSQL 17.10 over TLS",
        url=through.url,
        direct=direct,
        through=through,
        striker=cast("Any", striker),
        gate=cast("Any", None),
        front=cast("Any", front),
        cache=cache,
        elapsed_s=10.1,
        counts=Counter(link_lost=12, restored=12, run_again=1),
    )
    settle(made)
    return made


def settle(made: Scene, *rows: tuple[int, int]) -> None:
    """Set the books of both sides, as if the table held these rows (default: the right ones)."""
    right = ((1, 1), (2, 1))
    made.balances = {
        made.direct.name: balance(made.direct.tally, right),
        made.through.name: balance(made.through.tally, rows or right),
    }

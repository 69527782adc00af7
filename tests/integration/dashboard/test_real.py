"""The dashboard of a real proxy: after a real incident its numbers are those of the API."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import redis as redis_py

from proxy.demo.cutter import Cut, Target
from proxy.demo.servers import PostgresServer, RedisServer
from tests.fix_backstay import Backstay
from tests.fix_cutter import ThreadCutter
from tests.integration.dashboard.tab import Tab

SESSIONS = 4
READS = 14
WAIT_S_MAX = 10.0

pytestmark = pytest.mark.servers


@dataclass
class Stage:
    """The proxy between real servers, links of PostgreSQL through a cutter."""

    proxy: Backstay
    cutter: ThreadCutter

    @property
    def url(self) -> str:
        return f"http://{self.proxy.config['admin']['listen']}/"

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + "api/v1/status") as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status that is as wanted."""
        deadline_s = time.monotonic() + WAIT_S_MAX
        while not condition(status := self.status()):
            assert time.monotonic() < deadline_s, json.dumps(status)
            time.sleep(0.05)
        return status


@pytest.fixture
def stage(
    make_backstay: Callable[..., Backstay], postgres: PostgresServer, redis: RedisServer
) -> Iterator[Stage]:
    with ThreadCutter(Target(address=("127.0.0.1", postgres.port))) as cutter:
        proxy = make_backstay(
            postgres=[{"name": "main", "upstream": f"postgresql://127.0.0.1:{cutter.port}/app"}],
            redis=[{"name": "cache", "upstream": f"redis://127.0.0.1:{redis.port}"}],
        )
        yield Stage(proxy, cutter)


def incident_with_an_error(stage: Stage) -> None:
    """Links cut under idle sessions, and under one in a transaction that has written."""
    connections = [psycopg.connect(stage.proxy.dsn(), autocommit=True) for _ in range(SESSIONS)]
    writer = connections[0]
    try:
        writer.execute("begin")
        writer.execute("create table dashboard_never (id int)")
        assert stage.cutter.call(lambda cutter: cutter.cut_all(Cut.RST)) >= SESSIONS
        for connection in connections[1:]:
            assert connection.execute("select 1").fetchone() == (1,)
        with pytest.raises(psycopg.errors.SerializationFailure):
            writer.execute("select 1")
        writer.execute("rollback")
        assert writer.execute("select 1").fetchone() == (1,)
    finally:
        for connection in connections:
            connection.close()


def read_again_and_again(stage: Stage) -> None:
    """The pattern of the incident this project began with."""
    with redis_py.Redis(port=stage.proxy.port("redis"), decode_responses=True) as client:
        client.set("user:42:profile", "x")
        client.get("user:42:profile")
        for _ in range(READS):
            assert client.get("user:42:profile") == "x"
            assert client.get("user_gym_membership:42:7") is None


def shown(tab: Tab) -> dict[str, Any]:
    """What the page says."""
    names = {
        "main": ("clients", "drops", "again", "errors", "state"),
        "cache": ("clients", "hit_rate", "reads_saved", "entries", "errors", "state"),
    }
    return {
        "saved": [tab.field(name) for name in ("drops_absorbed", "reads_saved", "errors_answered")],
        "summary": tab.field("summary"),
        **{f"{route} {name}": tab.field(name, route) for route in names for name in names[route]},
        "losses": counts(tab, "main", "losses"),
        "told": counts(tab, "main", "errors"),
        "repeated": counts(tab, "cache", "repeated_keys"),
        "missing": counts(tab, "cache", "missing_keys"),
        "incidents": [one["id"] for one in incidents(tab)],
    }


def expected(status: dict[str, Any]) -> dict[str, Any]:
    """What it must say."""
    main, cache = status["postgres"][0], status["redis"][0]
    kept = cache["cache"]
    looked = kept["hits"] + kept["misses"] + kept["coalesced"]
    again = ("resent_unsent", "resent_fatal", "replayed_read_only", "resent_harmless")
    saved = status["saved"]
    return {
        "saved": [
            f"{saved[name]:,}" for name in ("drops_absorbed", "reads_saved", "errors_answered")
        ],
        "summary": status["summary"],
        "main clients": f"{main['clients']:,}",
        "main drops": f"{main['counts']['absorbed']:,}",
        "main again": f"{sum(main['counts'][name] for name in again):,}",
        "main errors": f"{sum(main['errors'].values()):,}",
        "main state": main["state"],
        "cache clients": f"{cache['clients']:,}",
        "cache hit_rate": f"{int(1000 * kept['hits'] / looked) / 10:g}%",
        "cache reads_saved": f"{kept['hits'] + kept['coalesced']:,}",
        "cache entries": f"{kept['entries']:,}",
        "cache errors": f"{sum(cache['errors'].values()):,}",
        "cache state": cache["state"],
        "losses": main["losses"],
        "told": main["errors"],
        "repeated": {key["shape"]: key["count"] for key in kept["repeated_keys"]},
        "missing": {key["shape"]: key["count"] for key in kept["missing_keys"]},
        "incidents": [one["id"] for one in status["incidents"]],
    }


def counts(tab: Tab, route: str, table: str) -> dict[str, int]:
    """The rows of a table by the name that the API gives them."""
    found = tab.js(f"""[...document.querySelectorAll(
      '[data-route="{route}"] [data-table="{table}"] tbody tr')].map((row) => [
        (row.querySelector('th small') ?? row.querySelector('th .cell')).textContent,
        row.querySelector('td .cell').textContent])""")
    return {name: int(text.replace(",", "")) for name, text in found}


def incidents(tab: Tab) -> list[dict[str, Any]]:
    """Each with all its facts."""
    found: list[dict[str, Any]] = tab.js("""
      [...document.querySelectorAll('.incidents > li')].map((one) => ({
        id: one.dataset.id, level: one.dataset.level,
        facts: Object.fromEntries([...one.querySelectorAll('dd')].map((dd) =>
          [dd.dataset.field, [...dd.children].map((line) => line.textContent)])) }))""")
    return found


def test_after_an_incident_the_page_says_what_the_api_says(tab: Tab, stage: Stage) -> None:
    tab.open(stage.url)
    read_again_and_again(stage)
    incident_with_an_error(stage)
    status = stage.until(
        lambda told: (
            bool(told["incidents"])
            and told["incidents"][0]["ended_s"] is not None
            and not any(route["clients"] for route in [*told["postgres"], *told["redis"]])
        )
    )
    incident = status["incidents"][0]
    assert incident["errors"] == {"40001": 1}
    assert status["saved"]["drops_absorbed"] >= SESSIONS - 1
    deadline_s = time.monotonic() + WAIT_S_MAX
    while (page := shown(tab)) != (wanted := expected(stage.status())):
        if time.monotonic() > deadline_s:
            assert page == wanted
        time.sleep(0.1)
    facts = incidents(tab)[0]["facts"]
    assert facts["losses"][0].startswith(f"{incident['losses']}\u00a0link")
    assert facts["sessions"][0].startswith(f"{incident['sessions']}\u00a0session")
    assert [line[:10] for line in facts["errors"]] == ["1 \u00d7 40001:"]
    assert tab.console() == []


def test_a_proxy_that_is_killed_is_missed_until_it_is_back(tab: Tab, stage: Stage) -> None:
    tab.open(stage.url)
    tab.wait("document.body.dataset.contact === 'live'")
    stage.proxy.kill()
    tab.wait("document.body.dataset.contact === 'stale'")
    assert tab.field("summary").startswith("No contact with Backstay for ")
    assert tab.js("document.querySelector('.verdict').dataset.level") == "unknown"
    assert "may be wrong" in tab.text(".verdict-note")
    assert tab.text("#contact-text").startswith("Stale for ")
    assert tab.js("document.title").startswith("?")
    assert "now" not in tab.texts(".spark-when"), "nothing old is called new"
    stage.proxy.start()
    tab.js("document.querySelector('.verdict button').click()")  # it would try by itself, later
    tab.wait("document.body.dataset.contact === 'live'")
    assert tab.field("summary") == "All is well."

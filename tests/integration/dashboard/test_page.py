"""The dashboard in Chromium, in front of an admin port that says what a test tells it to."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from proxy.core.report import KeyCount, PoolReport, Report
from tests.integration.dashboard import canned
from tests.integration.dashboard.canned import EVIL, NOW_S
from tests.integration.dashboard.stand_in import StandIn
from tests.integration.dashboard.tab import Tab

MakeStandIn = Callable[..., StandIn]


@pytest.fixture
def well(stand_in: MakeStandIn) -> StandIn:
    """Everything well, with a past."""
    return stand_in(canned.status(canned.report()))


def away() -> dict[str, Any]:
    """The upstream is away, 37 sessions wait."""
    route = canned.postgres(state="away", reason="upstream_unreachable", away_s=12.4, waiting=37)
    going_on = canned.incident(9, 12.4, NOW_S, ended_s=None, reason="upstream_unreachable")
    return canned.status(canned.report(postgres=[route], redis=[], incidents=[going_on]))


# -- what it says


def test_all_is_well_at_one_glance(tab: Tab, well: StandIn) -> None:
    tab.open(well.url)
    assert tab.field("summary") == "All is well."
    assert tab.text(".verdict-word") == "WELL"
    assert tab.js("document.querySelector('.verdict').dataset.level") == "good"
    assert tab.js("document.title") == "✓ Backstay: All is well."
    assert tab.text("#contact-text") == "Live"
    assert tab.console() == []


def test_an_upstream_that_is_away_is_said_first(tab: Tab, stand_in: MakeStandIn) -> None:
    tab.open(stand_in(away()).url)
    summary = (
        "main: the upstream has been away for 12 s (the server could not be reached);"
        " 37 sessions wait."
    )
    assert tab.field("summary") == summary
    assert tab.text(".verdict-word") == "TROUBLE"
    assert tab.js("document.querySelector('.verdict use').getAttribute('href')") == "#icon-critical"
    assert tab.text(".verdict-note").startswith("Look at db.example.com:5432:")
    assert "away" not in tab.text(".findings"), "nothing is said twice"
    assert tab.field("state", "main") == "away"
    assert tab.text(".trouble") == "Away for 12 s: the server could not be reached."
    assert tab.field("waiting", "main") == "37"
    assert tab.text(".incident-outcome") == "going on"
    assert tab.js("document.title").startswith("✕")


def test_routes_show_the_numbers_they_were_given(tab: Tab, well: StandIn) -> None:
    tab.open(well.url)
    main = {name: tab.field(name, "main") for name in ("clients", "drops", "again", "errors")}
    assert main == {"clients": "42", "drops": "1,284", "again": "715", "errors": "12"}
    names = ("clients", "links", "hit_rate", "reads_saved", "entries", "drops")
    cache = {name: tab.field(name, "cache") for name in names}
    assert cache == {
        "clients": "18",
        "links": "4",
        "hit_rate": "91.9%",
        "reads_saved": "155,337",
        "entries": "3,120",
        "drops": "48",
    }
    assert "11 MiB of 64 MiB" in tab.text('[data-route="cache"] .tiles')
    pools = tab.texts('[data-table="pools"] tbody tr')
    assert len(pools) == 2
    for part in ("app", "gym", "14 of 20", "6 active · 8 idle", "6 active · 31 idle"):
        assert part in pools[0]
    assert "1 active · 2 idle · 1 opening" in pools[1]
    lost = tab.text('[data-route="main"] [data-table="losses"]')
    assert "The link was reset" in lost
    assert "611" in lost
    hot = tab.text('[data-table="top_keys"] tbody tr')
    assert hot.split() == ["user:*", "61,000"]
    assert "21,300" in tab.text('[data-table="missing_keys"]')
    assert "52,113" in tab.text('[data-table="repeated_keys"]')
    bypassed = tab.text('[data-table="bypassed"]')
    assert "A write to the key was under way" in bypassed
    assert "402" in bypassed


def test_latencies_are_those_of_the_histograms(tab: Tab, well: StandIn) -> None:
    tab.open(well.url)
    latency = canned.latency()
    rows = tab.texts('[data-route="main"] [data-table="latency"] tbody tr')
    assert len(rows) == 6
    server = latency.server
    for share in (0.5, 0.99):
        ms = server.quantile_s(share) * 1e3
        assert f"{float(f'{ms:.3g}'):g} ms" in rows[1]
    assert "µs" in rows[2]


def test_an_incident_says_what_became_of_everything(tab: Tab, well: StandIn) -> None:
    tab.open(well.url)
    incidents = tab.texts(".incidents > li")
    assert len(incidents) == 3
    assert "absorbed, no error" in incidents[0]
    assert "12 errors answered" in incidents[1]
    tab.js("document.querySelectorAll('.incidents details')[0].open = true")
    tab.js("document.querySelectorAll('.incidents details')[1].open = true")
    first, second = tab.texts(".incidents > li")[:2]
    assert "FATAL: terminating connection due to administrator command (57P01)" in first
    assert "12 links to db.example.com:5432" in first
    assert "31 sessions, longest wait 1.31 s" in first
    assert "for 1.2 s" in first
    assert "FATAL proved that it was rolled back (FT)" in first
    assert "Nobody" in first
    assert re.search("3 . 08007: outcome unknown: it may have been saved", second)
    assert re.search("9 . 40001: rolled back", second)
    marks = "document.querySelectorAll('.mark').length"
    assert tab.js(marks) == 3
    tab.js("document.querySelector('.choices input').click()")
    assert tab.js(marks) == 1  # 250 s ago
    tab.js("document.querySelector('.choices label:last-child input').click()")
    assert tab.js(marks) == 3


def test_who_had_no_link_and_got_an_error_was_affected(tab: Tab, stand_in: MakeStandIn) -> None:
    refused = canned.incident(1, 30.0, NOW_S, sessions=0, losses=0, errors={"UPSTREAMDOWN": 5})
    unseen = canned.incident(2, 60.0, NOW_S, sessions=0)
    tab.open(stand_in(canned.status(canned.report(incidents=[refused, unseen]))).url)
    tab.js("document.querySelectorAll('.incidents details')[0].open = true")
    first, second = tab.texts(".incidents > li")
    assert "; who asked got an error" in first
    assert "No link to db.example.com:5432" in first
    assert "nobody was affected" in second


def test_a_click_on_the_time_line_opens_the_incident(tab: Tab, stand_in: MakeStandIn) -> None:
    many = [canned.incident(30 - i, 60.0 * i + 60, NOW_S) for i in range(30)]
    tab.open(stand_in(canned.status(canned.report(incidents=many))).url)
    listed = "document.querySelectorAll('.incidents > li').length"
    assert tab.js(listed) == 8
    tab.js("[...document.querySelectorAll('.mark')].at(-1).click()")
    assert tab.js(listed) == 30
    assert tab.js("document.querySelector('.incidents details[open]').parentNode.dataset.id") == "1"
    assert tab.js("document.activeElement.tagName") == "SUMMARY"
    tab.js("document.querySelector('#incidents .more').click()")
    assert tab.js(listed) == 8


def test_before_anybody_has_connected_it_says_what_to_do(tab: Tab, stand_in: MakeStandIn) -> None:
    route = canned.postgres(
        state="idle",
        clients=0,
        pools=[],
        counts={},
        losses={},
        errors={},
        latency=canned.latency(0),
    )
    tab.open(stand_in(canned.status(canned.report(postgres=[route], redis=[], incidents=[]))).url)
    assert "put 127.0.0.1:6432 into DATABASE_URL" in tab.text('[data-route="main"]')
    assert "No pool yet" in tab.text('[data-table="pools"]')
    assert "Nothing was measured yet." in tab.text('[data-table="latency"]')
    assert "None since Backstay started 2 h 1 min ago." in tab.text("#incidents")
    assert tab.js("document.getElementById('redis').hidden")
    assert not tab.js("document.getElementById('postgres').hidden")


def test_names_that_clients_choose_are_text(tab: Tab, stand_in: MakeStandIn) -> None:
    status = canned.status(nasty(), summary=f"All is well, {EVIL}.")
    status["findings"] = [{"level": "info", "route": EVIL, "text": EVIL, "advice": EVIL}]
    tab.open(stand_in(status).url)
    tab.js("[...document.querySelectorAll('details')].forEach((one) => { one.open = true; })")
    tab.wait("document.querySelector('.facts q') !== null")
    shown = tab.js("document.body.innerText.split('<img src=x onerror=').length - 1")
    assert shown >= 14
    assert tab.js("document.querySelectorAll('main img, main script').length") == 0
    assert tab.js("window.pwned") is None
    assert tab.console() == []


def nasty() -> Report:
    """Markup wherever a client, a server or a settings file has a word."""
    route = canned.postgres(
        name=EVIL,
        upstream=[EVIL],
        listen=[EVIL],
        pools=[PoolReport(EVIL, EVIL, 1, 1, 0, 1, 1, 0, 20), PoolReport("__proto__", "a")],
        errors={EVIL: 1, "constructor": 2},
    )
    keys = [KeyCount(EVIL, 3), KeyCount("__proto__", 2)]
    redis = canned.redis(links={EVIL: 1})
    redis.cache.top_keys = redis.cache.missing_keys = redis.cache.repeated_keys = keys
    incident = canned.incident(1, 60, NOW_S, route=EVIL, reason=EVIL, upstream=EVIL)
    incident.last_words, incident.errors, incident.replayed = EVIL, {EVIL: 1}, {EVIL: 1}
    return canned.report(postgres=[route], redis=[redis], incidents=[incident])


def test_an_incident_is_red_only_while_somebody_waits(tab: Tab, stand_in: MakeStandIn) -> None:
    incident = canned.incident(5, 1, NOW_S, ended_s=None)
    server = stand_in(canned.status(canned.report(incidents=[incident])))
    tab.open(server.url)
    assert tab.text(".incident-outcome") == "served again"
    assert "The last incident is just over." in tab.text(".verdict-note")
    route = canned.postgres(waiting=1)
    server.status = canned.status(canned.report(incidents=[incident], postgres=[route]))
    tab.wait("document.querySelector('.incident-outcome').textContent === 'going on'")
    assert tab.js("document.querySelector('.mark').dataset.level") == "critical"
    assert "who needs one gets another" in tab.text(".verdict-note")


# -- how fresh it is


def test_tries_come_by_themselves_with_growing_pauses(tab: Tab, stand_in: MakeStandIn) -> None:
    tab.js("1")  # the page's own module, without the page
    tab.load(stand_in(canned.status(canned.report())).url)
    pauses = tab.js("""(async () => {
      const { Live } = await import("/dashboard/live.js");
      const timers = [];
      globalThis.fetch = () => Promise.reject(new Error("no"));
      globalThis.setTimeout = (act, ms) => { timers.push(ms); queueMicrotask(() => {
        if (timers.length < 9) act();
      }); return 0; };
      globalThis.EventSource = class { addEventListener() {} close() {} };
      new Live({ status() {}, incident() {}, lost() {} }).start();
      for (let turn = 0; turn < 200; turn += 1) await null;
      return timers;
    })()""")[1:]
    assert len(pauses) == 8
    for i, pause_ms in enumerate(pauses):
        assert 0.75 <= pause_ms / min(10_000, 500 * 2**i) <= 1.25


def test_a_stream_that_falls_silent_is_not_live(tab: Tab, well: StandIn) -> None:
    tab.open(well.url)
    well.silent = True
    tab.wait("document.body.dataset.contact === 'stale'")
    well.silent = False
    tab.wait("document.body.dataset.contact === 'live'")


def test_where_streams_do_not_get_through_it_polls(tab: Tab, stand_in: MakeStandIn) -> None:
    server = stand_in(canned.status(canned.report()), streams=False)
    tab.open(server.url)
    tab.wait("document.getElementById('contact-text').textContent === 'Live, every 2 s'")
    server.status = away()
    tab.wait("document.querySelector('.verdict').dataset.level === 'critical'")
    assert server.asked.count("/api/v1/status") >= 2


def test_a_hidden_page_holds_no_connection(tab: Tab, well: StandIn) -> None:
    tab.open(well.url)
    tab.wait("document.getElementById('contact-text').textContent === 'Live'")
    hide = "Object.defineProperty(document, 'hidden', {{ value: {}, configurable: true }});"
    hide += "document.dispatchEvent(new Event('visibilitychange'))"
    tab.js(hide.format("true"))
    well.wait_streams(0)
    assert tab.js("document.title") == "✓ Backstay: All is well."
    tab.js(hide.format("false"))
    well.wait_streams(1)
    tab.wait("document.getElementById('contact-text').textContent === 'Live'")


def test_a_refusal_is_quoted(tab: Tab, stand_in: MakeStandIn) -> None:
    server = stand_in(canned.status(canned.report()), streams=False)
    server.refusal = "unknown Host header"
    tab.load(server.url)
    tab.wait("document.querySelector('.verdict-note').textContent.includes('unknown Host')")
    assert tab.field("summary") == "Backstay does not answer."
    assert tab.js("document.getElementById('content').hidden")


def test_an_incident_is_shown_when_it_is_told(tab: Tab, well: StandIn) -> None:
    tab.open(well.url)
    well.tell(canned.incident(77, 1, NOW_S, ended_s=None))
    tab.wait("document.querySelector('.incidents [data-id=\"77\"]') !== null")


def test_what_a_reader_does_survives_the_ticks(tab: Tab, well: StandIn) -> None:
    tab.open(well.url)
    tab.js("document.querySelector('.incidents summary').click()")
    tab.js("document.querySelector('.incidents summary').focus()")
    tab.js("""window.changed = []; new MutationObserver((all) => { window.changed.push(...all); })
      .observe(document.querySelector('[aria-live]'), { childList: true, subtree: true })""")
    summary = "main: the upstream has been away for {} s; 3 sessions wait."
    for second in (1, 2, 13):
        well.status = canned.status(
            canned.report(), well=False, summary=summary.format(second), now_s=NOW_S + second
        )
        tab.wait(f"document.querySelector('.verdict-text').textContent.includes(' {second} s;')")
    assert tab.js("document.querySelector('.incidents details').open")
    assert tab.js("document.activeElement.tagName") == "SUMMARY"
    # Told once that something is wrong, not for every second that it lasts.
    assert tab.js("window.changed.length") == 1


def test_rates_and_quantiles_are_of_the_last_seconds(tab: Tab, well: StandIn) -> None:
    tab.load(well.url)
    report = canned.report()
    first = canned.status(report)
    report.postgres[0].counts["units"] += 900
    report.redis[0].commands += 300
    report.redis[0].cache.hits += 30
    report.redis[0].cache.misses += 10
    report.postgres[0].latency.server.add(canned.histogram(0.2, 500))
    second = canned.status(report, now_s=NOW_S + 3)
    history = f"""(async () => {{
      const {{ History }} = await import("/dashboard/history.js");
      const history = new History();
      for (const status of {canned.as_json([first, second, first])}) history.add(status);
      return history.points;
    }})()"""
    points = tab.js(history)
    assert len(points) == 2, "a late answer is no new point"
    assert points[1]["units"] == 300
    assert points[1]["commands"] == 100
    assert points[1]["hits"] == 0.75
    assert points[1]["p99_s"] == pytest.approx(canned.histogram(0.2, 500).quantile_s(0.99), rel=0.1)

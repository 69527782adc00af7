"""Incidents: events in, stories out."""

from typing import Any

import pytest

from proxy.core.report import INCIDENTS_MAX, Incident
from proxy.observe.incidents import QUIET_S, SESSIONS_MAX, Incidents


class Play:
    """Events of route `main` at chosen times; `at` moves the clock."""

    def __init__(self) -> None:
        self.incidents = Incidents("w-")
        self.now_s = 1000.0

    def at(self, seconds: float) -> "Play":
        self.now_s = 1000.0 + seconds
        return self

    def __call__(self, event: str, **fields: Any) -> "Play":
        self.incidents.event(self.now_s, event, {"route": "main", **fields})
        return self

    @property
    def all(self) -> list[Incident]:
        return list(self.incidents.list(self.now_s))

    @property
    def one(self) -> Incident:
        (incident,) = self.all
        return incident


@pytest.fixture
def play() -> Play:
    return Play()


def lost(play: Play, session: int = 1, **fields: Any) -> None:
    fields = {"reason": "upstream_reset", "upstream": "db:5432", "in_flight": 0, **fields}
    play("link_lost", session=session, **fields)


def test_nothing_has_happened(play: Play) -> None:
    play("connected", session=1, waited_s=0.001)("disconnected", session=1)
    assert play.all == []


def test_an_idle_loss_is_over_at_once(play: Play) -> None:
    lost(play)
    assert (play.one.reason, play.one.upstream, play.one.ended_s) == (
        "upstream_reset",
        "db:5432",
        None,
    )
    play.at(QUIET_S)
    assert (play.one.started_s, play.one.ended_s) == (1000.0, 1000.0)
    assert (play.one.losses, play.one.sessions, play.one.longest_wait_s) == (1, 1, 0.0)


def test_losses_that_belong_together_are_one_incident(play: Play) -> None:
    lost(play, 1)
    play.at(0.4)
    lost(play, 2)
    play.at(0.8)("pool_link_lost", reason="upstream_reset", upstream="db:5432")
    play.at(5)
    assert (play.one.losses, play.one.sessions, play.one.ended_s) == (3, 2, 1000.8)
    lost(play, 1)
    assert [incident.id for incident in play.all] == ["w-2", "w-1"]


def test_it_goes_on_while_a_session_waits(play: Play) -> None:
    lost(play)
    play("attaching", session=1).at(9)
    assert play.one.ended_s is None
    play("restored", session=1, waited_s=9.0, away_s=9.0).at(20)
    assert (play.one.ended_s, play.one.longest_wait_s) == (1009.0, 9.0)


@pytest.mark.parametrize("end", ["disconnected", "attach_given_up"])
def test_a_session_that_leaves_waits_no_longer(play: Play, end: str) -> None:
    lost(play)
    play("attaching", session=1).at(3)(end, session=1, reason="client_closed").at(5)
    assert play.one.ended_s == 1003.0


def test_an_outage(play: Play) -> None:
    lost(play)
    play("attaching", session=1)
    play("upstream_down", reason="upstream_unreachable", upstream="db:5432").at(1)
    play("attaching", session=2).at(1.5)  # a newcomer
    play("waiting", session=3, waited_s=1.4).at(4)
    assert play.one.ended_s is None
    play("upstream_up", away_s=4.0)
    play("restored", session=1, waited_s=4.0).at(4.2)
    play("connected", session=2, waited_s=3.2)
    assert play.at(8).one.ended_s is None, "session 3 still waits"
    play("connected", session=3, waited_s=7.9)
    play("connected", session=4, waited_s=7.0)  # waited, though no event said so before
    play("connected", session=5, waited_s=0.01).at(20)
    one = play.one
    assert (one.reason, one.outage_s, one.sessions) == ("upstream_reset", 4.0, 4)
    assert (one.longest_wait_s, one.ended_s) == (7.9, 1008.0)


def test_an_upstream_that_was_never_there(play: Play) -> None:
    play("upstream_down", reason="upstream_unreachable", upstream="db:5432")
    assert (play.one.losses, play.one.reason) == (0, "upstream_unreachable")
    assert play.at(100).one.ended_s is None
    assert play("upstream_up", away_s=100.0).at(102).one.ended_s == 1100.0


def test_what_was_done_and_said(play: Play) -> None:
    lost(play, 1, sqlstate="57P01", last_words="terminating connection")
    play("replayed", session=1, certificate="fatal")("replayed", session=1, certificate="fatal")
    play("error_answered", session=1, reason="outcome_unknown", sqlstate="08007")
    play("error_answered", session=7, reason="rolled_back", sqlstate="40001")  # of another time
    assert play.one.replayed == {"fatal": 2}
    assert play.one.errors == {"08007": 1}
    assert play.one.last_words == "terminating connection"


def test_a_late_error_belongs_to_the_incident_that_cost_the_link(play: Play) -> None:
    lost(play, 1)
    play.at(60)
    assert play.one.ended_s == 1000.0
    lost(play, 2)
    play("error_answered", session=1, reason="rolled_back", sqlstate="40001")
    newer, older = play.all
    assert (older.errors, newer.errors) == ({"40001": 1}, {})


def test_a_session_that_was_given_up(play: Play) -> None:
    lost(play)
    play("attaching", session=1).at(30)
    play("session_ended", session=1, reason="hold_timeout", sqlstate="08006")
    play("disconnected", session=1, reason="hold_timeout").at(40)
    assert (play.one.errors, play.one.ended_s) == ({"08006": 1}, 1030.0)


@pytest.mark.parametrize("reason", ["link_idle", "shutdown", "drain"])
def test_an_orderly_end_is_none(play: Play, reason: str) -> None:
    lost(play, reason=reason)
    assert play.all == []


def test_routes_are_apart(play: Play) -> None:
    lost(play)
    play.incidents.event(play.now_s, "link_lost", {"route": "other", "reason": "upstream_eof"})
    play("redis_link_lost", reason="upstream_eof", lane="a", clients=1)
    assert {(one.route, one.kind) for one in play.all} == {
        ("main", "postgres"),
        ("other", "postgres"),
        ("main", "redis"),
    }


# -- Redis


def test_a_redis_lane(play: Play) -> None:
    play("redis_link_lost", lane="a", clients=5, reason="upstream_eof", upstream="cache:6379")
    play("redis_resent", count=3)("redis_error_answered", error="UPSTREAMLOST", count=2)
    play("redis_link_lost", lane="tracking", clients=0, reason="upstream_eof").at(2)
    assert play.one.ended_s is None
    play("redis_restored", lane="a", waited_s=2.0, commands=3).at(9)
    one = play.one
    assert (one.losses, one.sessions, one.ended_s) == (2, 5, 1002.0)
    assert (one.replayed, one.errors) == ({"resent": 3}, {"UPSTREAMLOST": 2})
    assert (one.upstream, one.longest_wait_s) == ("cache:6379", 2.0)


def test_a_redis_lane_that_nobody_needs(play: Play) -> None:
    play("redis_link_lost", lane="a", clients=5, reason="upstream_eof").at(1)
    play("redis_lane_over", lane="a").at(9)
    assert play.one.ended_s == 1001.0


def test_a_redis_outage(play: Play) -> None:
    play("redis_upstream_away", reason="upstream_unreachable", lane="a").at(5)
    play("redis_upstream_back", away_s=5.0, lane="a").at(9)
    assert (play.one.outage_s, play.one.ended_s) == (5.0, 1005.0)


# -- bounds


def test_the_newest_are_kept(play: Play) -> None:
    for number in range(INCIDENTS_MAX + 50):
        lost(play.at(number * 10), number)
    assert len(play.all) == INCIDENTS_MAX
    assert play.all[0].id == f"w-{INCIDENTS_MAX + 50}"


def test_sessions_are_bounded(play: Play) -> None:
    for number in range(SESSIONS_MAX + 10):
        lost(play, number)
        play("attaching", session=number)
    route = play.incidents._routes["postgres", "main"]
    assert len(route.owners) == len(route.counted) == len(route.waiting) == SESSIONS_MAX
    assert play.one.losses == SESSIONS_MAX + 10


def test_codes_are_bounded(play: Play) -> None:
    lost(play)
    for number in range(1000):
        play("error_answered", session=1, sqlstate=f"{number:05}")
    assert len(play.one.errors) == 32

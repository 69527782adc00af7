"""The product with one deliberate mistake each: a simulation that does not see them is blind."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from proxy.postgres.protocol import restore, say, verdict
from proxy.postgres.protocol.fingerprint import Fingerprint
from proxy.postgres.protocol.restore import Restoration
from proxy.postgres.protocol.units import Unit
from proxy.postgres.protocol.verdict import Action
from proxy.postgres.runtime import attach, loss, pool, session, session_end, session_send, upstream
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.pool_context import Hold
from proxy.postgres.runtime.route import PostgresRoute
from proxy.postgres.runtime.session_base import Phase, SessionBase
from tests.simulation.scenario import only

Patches = tuple[tuple[Any, str, Any], ...]


def _judged(change: Callable[[Any], Any]) -> Patches:
    def judge(units: Any, facts: Any) -> Any:
        return [change(decision) for decision in verdict.judge(units, facts)]

    return ((loss, "judge", judge),)


def _resend_doubtful(decision: Any) -> Any:
    again = decision.action is Action.DOUBT and decision.status == verdict.IDLE
    return replace(decision, action=Action.RESEND) if again else decision


def _deny_doubtful(decision: Any) -> Any:
    return replace(decision, action=Action.ROLLED) if decision.action is Action.DOUBT else decision


def _restore_no_settings() -> Patches:
    def restoration(state: Any) -> Restoration:
        whole = restore.restoration(state)
        return Restoration(b"", 0, whole.listens)

    blind = mock.Mock(return_value=None)
    return ((attach, "restoration", restoration), (Fingerprint, "difference", blind))


def _say_twice() -> Patches:
    say = SessionBase.say

    def twice(self: Any, data: bytes) -> None:
        say(self, data)
        if data.startswith(b"C") and self.link is None:
            say(self, data)

    return ((SessionBase, "say", twice),)


def _release_and_send_again() -> Patches:
    part = session.Session.from_link

    def from_link(self: Any, data: bytes) -> None:
        part(self, data)
        for unit in self.expected.inflight:
            unit.released, unit.replies = False, 0

    return ((session.Session, "from_link", from_link),)


def _unclean() -> Patches:
    return ((session_end, "cleaning", lambda *_: None),)


def _no_statements() -> Patches:
    def with_missing(asking: Any, unit: Any, part: bytes) -> bytes:
        return part

    return ((attach, "with_missing", with_missing),)


def _all_unsent() -> Patches:
    def mark_unsent(units: Any, left_bytes: int) -> None:
        for unit in units:
            unit.unsent = unit.untouched = True

    return ((loss, "mark_unsent", mark_unsent),)


def _never_leave() -> Patches:
    return ((Hold, "leave", lambda self: None),)


def _late_cancels() -> Patches:
    async def at_once(self: Any) -> None:
        """Does not wait for the cancel requests under way."""

    return ((Link, "cancels_over", at_once),)


def _any_startup() -> Patches:
    def pop(self: Any, startup: Any) -> Any:
        return self._idle.pop() if self._idle and not self._waiters else None

    return ((pool.Pool, "_pop", pop),)


def _forget_queue() -> Patches:
    def put_first(self: Any, entries: Any) -> None:
        """What the verdict wants next is dropped."""

    return ((session_send.SendingSession, "put_first", put_first),)


def _never_copied() -> Patches:
    def rows_end(self: Any, end: bytes) -> None:
        """CopyDone is not noticed."""

    return ((Unit, "rows_end", rows_end),)


def _never_closed() -> Patches:
    return ((session_send.SendingSession, "_close_answered", lambda *_: None),)


def _last_come() -> Patches:
    def next_for(self: Any, link: Any) -> Any:
        fits = [one for one in self._waiters if one.startup == link.startup]
        return next((one for one in reversed(fits) if not one.future.done()), None)

    return ((pool.Pool, "_next_for", next_for),)


def _ageless() -> Patches:
    def welcome(self: Any, link: Any) -> None:
        self._links.add(link)
        link.expires_s = float("inf")
        self._offer(link)

    return ((pool.Pool, "_welcome", welcome),)


def _endless_queue() -> Patches:
    def enter(self: Any) -> None:
        self.count += 1

    return ((Hold, "enter", enter),)


def _never_pinged() -> Patches:
    maintain = pool.Pool.maintain

    def maintain_only(self: Any, now_s: float) -> None:
        self._context.ping_s = float("inf")
        maintain(self, now_s)

    return ((pool.Pool, "maintain", maintain_only),)


def _rests_in_transactions() -> Patches:
    def rests(self: Any) -> bool:
        idle = not self.expected.inflight and not self._queue and not self.gatherer.in_unit
        return idle and self._attaching is None and self.phase is Phase.READY

    return ((SessionBase, "rests", property(rests)),)


def _deaf() -> Patches:
    take_rest = Link.take_rest

    def without_heard(self: Any) -> bytes:
        self._heard = None
        return take_rest(self)

    return ((Link, "take_rest", without_heard),)


def _gap_untold() -> Patches:
    return ((say, "notifications_missed", lambda: b""),)


def _any_role() -> Patches:
    def yes(*_: Any) -> bool:
        return True

    return ((upstream, "suits", yes), (pool, "suits", yes))


def _never_left() -> Patches:
    return ((PostgresRoute, "suits", lambda *_: True),)


def _others_not_asked() -> Patches:
    return ((PostgresRoute, "host_turned", lambda *_: None),)


def _news_forgotten() -> Patches:
    part = session.Session.from_link

    def from_link(self: Any, data: bytes) -> None:
        part(self, data)
        self.expected.learned = False

    return ((session.Session, "from_link", from_link),)


MUTANTS: dict[str, Callable[[], Patches]] = {
    "a doubtful write is sent again": lambda: _judged(_resend_doubtful),
    "a doubtful write is denied": lambda: _judged(_deny_doubtful),
    "settings are not restored": _restore_no_settings,
    "prepared statements are not made again": _no_statements,
    "an answer is said twice": _say_twice,
    "a half-delivered answer is sent again": _release_and_send_again,
    "a link is handed on uncleaned": _unclean,
    "whatever was in flight counts as unsent": _all_unsent,
    "a hold slot is never given back": _never_leave,
    "a late cancel meets the next session": _late_cancels,
    "links of other start-up settings are taken": _any_startup,
    "what the verdict decided is dropped": _forget_queue,
    "a COPY counts as unsent behind its CopyDone": _never_copied,
    "a batch refused at its Flush gets no ReadyForQuery": _never_closed,
    "who came last is served first": _last_come,
    "links do not grow old": _ageless,
    "notifications among the proxy's own answers are dropped": _deaf,
    "a gap in notifications is not told": _gap_untold,
    "the queue for links has no end": _endless_queue,
    "idle links are not pinged": _never_pinged,
    "a drain ends sessions within their transactions": _rests_in_transactions,
    "a standby is taken for the primary": _any_role,
    "a host that takes no writes any more is not left": _never_left,
    "other links of a host that has turned are not asked": _others_not_asked,
    "what comes with the first answers of a pipeline is forgotten": _news_forgotten,
}
SCENARIOS = {  # where the mistake shows; PLAIN for the others
    "a COPY counts as unsent behind its CopyDone": only("copy"),
    "a batch refused at its Flush gets no ReadyForQuery": only("flush"),
    "who came last is served first": only("pressure"),
    "links do not grow old": only("ageing"),
    "notifications among the proxy's own answers are dropped": only("notify"),
    "a gap in notifications is not told": only("notify"),
    "idle links are not pinged": only("ageing"),
    "the queue for links has no end": only("pressure"),
    "a drain ends sessions within their transactions": only("operate"),
    "a standby is taken for the primary": only("hosts"),
    "a host that takes no writes any more is not left": only("hosts"),
    "other links of a host that has turned are not asked": only("hosts"),
    "what comes with the first answers of a pipeline is forgotten": only("hosts"),
}


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """The product with this mistake."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, wrong in MUTANTS[name]():
            stack.enter_context(mock.patch.object(owner, attribute, wrong))
        yield

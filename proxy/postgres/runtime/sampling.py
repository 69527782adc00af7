"""How long a unit takes at the server and in the proxy: measured for one in SAMPLE_EVERY.

A session counts its client's chunks down; at zero the chunk takes the way through here, and so does
the answer. All others pay for one subtraction and two comparisons. Measured in turns with a
session without these lines: about 0.15 µs of the 25 that a SELECT 1 costs, most of it in the
samples. Sessions start their countdown at different numbers, so that the first units of short
sessions are sampled as often as any other.

Measured are units that go straight to the link with nothing before them; what waits for a link is
counted as waiting, by the pool.
"""

from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.postgres.protocol.units import Unit
    from proxy.postgres.runtime.session import Session

SAMPLE_EVERY = 32


class Sample:
    """One measured unit on its way. `own_s`: what the proxy itself has taken for it so far."""

    __slots__ = ("own_s", "sent_s", "unit")

    def __init__(self, unit: "Unit", sent_s: float, own_s: float) -> None:
        self.unit = unit
        self.sent_s = sent_s
        self.own_s = own_s


def timed_request(session: "Session", data: bytes) -> None:
    """`session.data_received(data)`, measured."""
    session.until_sample = SAMPLE_EVERY
    inflight = session.expected.inflight
    alone = not inflight and session.is_direct
    started_s = perf_counter()
    session.data_received(data)
    if alone and len(inflight) == 1 and inflight[0].complete:
        sent_s = perf_counter()
        session.sample = Sample(inflight[0], sent_s, sent_s - started_s)


def timed_answer(session: "Session", data: bytes) -> None:
    """`session.from_link(data)`, measured; at the end of the unit's answer both times count."""
    sample, session.sample = session.sample, None
    assert sample is not None
    started_s = perf_counter()
    session.from_link(data)
    if session.link is None:
        return  # lost: what follows is no answer to what was measured
    sample.own_s += perf_counter() - started_s
    inflight = session.expected.inflight
    if inflight and inflight[0] is sample.unit:
        session.sample = sample  # there is more to come
        return
    latency = session.route.latency
    latency.server.observe(started_s - sample.sent_s)
    latency.proxy.observe(sample.own_s)

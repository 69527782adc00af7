"""Fuzz targets: peer bytes into the cores of both dialects. One call, one mutated stream.

Each returns a word for what came of it, and lets nothing else out: peers may send anything, and
the only documented outcomes are progress, a fault (PeerProtocolError) and a FATAL. What a target
keeps is bounded, whatever the lengths in the bytes promise. With atheris installed,
`python -m tests.fuzz.targets` runs all of them under coverage guidance.
"""

import random
import sys
from collections.abc import Callable, Mapping

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol.classify import Classifier
from proxy.postgres.protocol.console import MESSAGE_BYTES_MAX, STATEMENTS_MAX, Role
from proxy.postgres.protocol.expected import HELD_BYTES_MAX, NEWS_BYTES_MAX, Expected
from proxy.postgres.protocol.framing import HEADER_BYTES, whole_bytes
from proxy.postgres.protocol.session_state import SessionState
from proxy.postgres.protocol.units import UNIT_BYTES_MAX, Gatherer
from proxy.postgres.protocol.verdict import Action, Loss, judge
from proxy.redis.protocol.framing import LINE_BYTES_MAX, CommandScanner, ReplyScanner
from tests.fuzz.seeds import OWED
from tests.unit.postgres.protocol.console_kit import Client

CLASSIFIER = Classifier()
CHUNK_BYTES_MAX = 64 << 10
Target = Callable[[bytes, random.Random], str]


def chunks(data: bytes, rng: random.Random) -> list[bytes]:
    """The data as a socket might give it: whole, in parts, or byte by byte."""
    size_max = rng.choice((1, 7, 100, CHUNK_BYTES_MAX))
    found, at = [], 0
    while at < len(data):
        size = rng.randint(1, size_max)
        found.append(data[at : at + size])
        at += size
    return found


def gatherer(data: bytes, rng: random.Random) -> str:
    """A client of PostgreSQL: what it sends goes on in order, unchanged, and is not hoarded."""
    core = Gatherer(CLASSIFIER)
    sent = b""
    for chunk in chunks(data, rng):
        pieces = core.feed(chunk)
        sent += b"".join(part for _, part, _ in pieces)
        assert core.pending_bytes <= UNIT_BYTES_MAX + len(chunk)
        if core.fault is not None or core.terminated:
            break
    assert data.startswith(sent)
    if core.fault is not None:
        assert isinstance(core.fault, PeerProtocolError)
        return "fault"
    return "terminated" if core.terminated else "fed"


def expected(data: bytes, rng: random.Random) -> str:
    """A server of PostgreSQL, from which answers to some units are owed; then its link dies."""
    state = SessionState()
    core_of_client = Gatherer(CLASSIFIER)
    core = Expected(state, core_of_client)
    for _ in range(rng.randint(0, 4)):
        for unit, _, last in core_of_client.feed(rng.choice(OWED)):
            if unit is not None and last:
                core.push(unit, hold=rng.random() < 0.5)
    status, got = core.status, 0
    for chunk in chunks(data, rng):
        got += sum(map(len, core.feed(chunk)))
        held = sum(unit.held_bytes for unit in core.inflight)
        assert held <= HELD_BYTES_MAX + len(chunk) + NEWS_BYTES_MAX
        if core.fault is not None or core.fatal is not None:
            break
        status = core.status
    assert got <= len(data)
    outcome = "fault" if core.fault is not None else "fatal" if core.fatal else "fed"
    fatal = core.fatal is not None
    units = core.lost()
    decisions = judge(units, Loss(fatal=fatal, status=status, begin_again=rng.random() < 0.5))
    assert len(decisions) == len(units)
    for unit, decision in zip(units, decisions, strict=True):
        again = decision.action in (Action.RESEND, Action.READ_ONLY)
        assert not (again and unit.released), "sent again behind a part of its answer"
    return outcome


def redis_commands(data: bytes, rng: random.Random) -> str:
    """A client of Redis. The scanner sees one buffer that grows."""
    scanner = CommandScanner()
    buf = b""
    for chunk in chunks(data, rng):
        buf += chunk
        try:
            marks = scanner.feed(buf)
        except PeerProtocolError:
            return "fault"
        assert all(mark <= len(buf) for mark in marks)
    return "fed"


def redis_replies(data: bytes, rng: random.Random) -> str:
    """A Redis server."""
    scanner = ReplyScanner()
    for chunk in chunks(data, rng):
        try:
            ends = scanner.feed(scanner.carry + chunk)
        except PeerProtocolError:
            return "fault"
        assert ends == sorted(ends)
        assert len(scanner.carry) <= LINE_BYTES_MAX
    return "fed"


def console(data: bytes, rng: random.Random) -> str:
    """A client at the console: every message is answered, refused or ends the session."""
    client = Client(rng.choice(list(Role)))
    at = 0
    while len(data) - at >= HEADER_BYTES:
        try:
            size = whole_bytes(data, at, Reason.CLIENT_PROTOCOL)
            if not size or at + size > len(data) or size > MESSAGE_BYTES_MAX:
                break
            client.send(data[at : at + size])
        except PeerProtocolError:
            return "fault"
        assert len(client.conversation._prepared) <= STATEMENTS_MAX
        assert len(client.conversation._portals) <= STATEMENTS_MAX
        at += size
        if client.conversation.over:
            return "terminated"
    return "fed"


TARGETS: Mapping[str, Target] = {
    "console": console,
    "gatherer": gatherer,
    "expected": expected,
    "redis_commands": redis_commands,
    "redis_replies": redis_replies,
}


def main() -> None:
    """Under atheris: the first byte chooses the target, the second seeds the cutting."""
    import atheris

    names = sorted(TARGETS)

    def one(data: bytes) -> None:
        if len(data) > 2:
            TARGETS[names[data[0] % len(names)]](data[2:], random.Random(data[1]))

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

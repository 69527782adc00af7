"""A campaign's result for people, and for programs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tests.campaign.stage import Result

CERTIFICATES = {
    "replayed_read_only": "read-only (RO)",
    "resent_fatal": "FATAL trailer (FT)",
    "resent_unsent": "not sent (NS)",
    "resent_harmless": "harmless: BEGIN, settings",
}


def as_json(result: Result) -> dict[str, Any]:
    """Numbers only: no statement, no key, no value."""
    counts, books = result.postgres["counts"], result.books
    wait, outage = (result.postgres["latency"][name] for name in ("wait", "outage"))
    return {
        "seed": result.seed,
        "seconds": result.seconds,
        "faults": dict(sorted(result.faults.items())),
        "links cut by the hops": dict(sorted(result.cuts.items())),
        "statements": dict(sorted(books.statements.items())),
        "sent again, by certificate": {name: counts[key] for key, name in CERTIFICATES.items()},
        "links lost under a session": counts["losses"],
        "sessions restored": counts["restores"],
        "outages": outage["count"],
        "longest outage, s": round(outage["max_s"], 3),
        "longest wait for a link, s": round(wait["max_s"], 3),
        "cache hits": result.redis["cache"]["hits"],
        "errors": dict(sorted(books.codes.items())),
        "idle sessions' checks": books.checks,
        "increments acknowledged": books.hits_known.total(),
        "increments unknown": books.hits_open.total(),
        "writes": asdict(result.balance),
        "wrong answers": len(books.wrong),
        "errors that nobody may get": len(books.broken),
    }


def table(result: Result) -> str:
    """Two columns; groups with their total first."""
    lines = []
    for name, value in as_json(result).items():
        if isinstance(value, Mapping):
            total = "" if name == "writes" else sum(value.values())
            lines.append(f"{name:<34} {total:>9}".rstrip())
            lines += [f"  {inner:<32} {number:>9}" for inner, number in value.items()]
        else:
            lines.append(f"{name:<34} {value:>9}")
    return "\n".join(lines)

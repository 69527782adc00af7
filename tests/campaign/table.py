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


def closing(result: Result) -> dict[str, Any]:
    """The table that decides."""
    balance, counts = result.balance, result.totals.postgres
    return {
        "cuts": sum(result.cuts.values()),
        "statements": result.books.statements.total(),
        "replayed": sum(counts[key] for key in CERTIFICATES) + result.totals.redis["resent"],
        "waited": result.totals.waited,
        "answered with an error": dict(sorted(result.books.codes.items())),
        "doubled": balance.doubled,
        "lost": balance.lost,
        "wrong": len(result.books.wrong) + balance.invented,
    }


def as_json(result: Result) -> dict[str, Any]:
    """Numbers only: no statement, no key, no value."""
    counts, books, totals = result.totals.postgres, result.books, result.totals
    return {
        "seed": result.seed,
        "seconds": result.seconds,
        "faults": dict(sorted(result.faults.items())),
        "links cut": dict(sorted(result.cuts.items())),
        "met a session that was": _by_phase(result),
        "statements": dict(sorted(books.statements.items())),
        "sent again, by certificate": {name: counts[key] for key, name in CERTIFICATES.items()},
        "Redis commands sent again": totals.redis["resent"],
        "Redis commands tried again": totals.redis["retried"],
        "links lost under a session": counts["losses"],
        "sessions restored": counts["restores"],
        "sessions that waited for a link": totals.waited,
        "sessions told that they wait": counts["holds_noticed"],
        "outages": dict(sorted(totals.outages.items())),
        "longest outage, s": round(totals.longest["outage"], 3),
        "longest wait for a link, s": round(totals.longest["wait"], 3),
        "cache hits": totals.cache_hits,
        "idle sessions' checks": books.checks,
        "increments acknowledged": books.hits_known.total(),
        "increments unknown": books.hits_open.total(),
        "writes": asdict(result.balance),
        "errors that nobody may get": len(books.broken),
        "lives of the proxy": books.lives,
        "slowest, s": dict(sorted(result.slowest.items(), key=lambda item: -item[1])[:5]),
        "closing": closing(result),
    }


def _by_phase(result: Result) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, phase), times in result.met().items():
        found[str(phase)] = found.get(str(phase), 0) + times
    return found


def table(result: Result) -> str:
    """Two columns; groups with their total first; last the table that decides."""
    whole = as_json(result)
    last = whole.pop("closing")
    return "\n".join([*_lines(whole), "", *_lines(last)])


def _lines(values: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            total = "" if name in ("writes", "slowest, s") else sum(value.values())
            lines.append(f"{name:<38} {total:>9}".rstrip())
            lines += [f"  {inner:<36} {number:>9}" for inner, number in value.items()]
        else:
            lines.append(f"{name:<38} {value:>9}")
    return lines

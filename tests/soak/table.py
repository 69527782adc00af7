"""A soak's result for people, and for programs."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from tests.soak.stage import Result, latencies
from tests.soak.watch import MIB, Sample, memory_growth, memory_slope, settled, thirds


def as_json(result: Result) -> dict[str, Any]:
    """Numbers only."""
    book, plan, status = result.book, result.plan, result.status
    counts = status["postgres"][0]["counts"]
    calm = settled(result.samples, plan.seconds) or result.samples
    first, last = thirds(calm)
    growth, share = memory_growth(calm), (calm[-1].at_s - calm[0].at_s) / plan.seconds
    speed = {
        f"{kind}, {name}, ms": f"{getattr(one, f'{name}_s') * 1000:.1f} → "
        f"{getattr(two, f'{name}_s') * 1000:.1f}"
        for kind in book.durations
        for one, two in [latencies(result, kind)]
        for name in ("p50", "p95")
    }
    return {
        "seed": plan.seed,
        "seconds": plan.seconds,
        "clients": {"PostgreSQL": plan.postgres, "Redis": plan.redis},
        "links cut": result.cuts,
        "links lost under a session": counts["losses"],
        "sessions restored": counts["restores"],
        "statements": dict(sorted(book.served.items())),
        "replayed": sum(n for name, n in counts.items() if name.startswith(("replayed", "resent"))),
        "answered with an error": dict(sorted(book.codes.items())),
        "doubled": result.balance.doubled,
        "lost": result.balance.lost,
        "wrong": len(book.wrong) + result.balance.invented,
        "errors that nobody may get": len(book.broken),
        "after warm-up, first third → last": {
            "memory, MiB": _change(first, last, "rss_bytes", MIB),
            "descriptors": _change(first, last, "fds", 1),
            "tasks": _change(first, last, "tasks", 1),
            **speed,
        },
        "memory, slope of all samples, MiB/h": round(memory_slope(calm) * 3600, 2),
        "memory, growth after warm-up, MiB": round(growth, 2),
        "... for each link cut meanwhile, KiB": round(
            growth * 1024 / max(1, result.cuts * share), 2
        ),
        "memory, largest, MiB": round(max(one.rss_bytes for one in result.samples) / MIB, 1),
        "before the first client → after the last": {
            "descriptors": f"{result.before.fds} → {result.after.fds}",
            "tasks": f"{result.before.tasks} → {result.after.tasks}",
        },
        "CPU of the proxy, s": round(status["workers"][0]["cpu_s"], 1),
        "worst delay of its loop, s": round(status["workers"][0]["loop_lag"]["max_s"], 3),
    }


def _change(first: Any, last: Any, name: str, unit: int) -> str:
    def middle(samples: list[Sample]) -> float:
        return round(median(getattr(one, name) for one in samples) / unit, 1)

    return f"{middle(first):g} → {middle(last):g}"


def table(result: Result) -> str:
    """Two columns."""
    lines = []
    for name, value in as_json(result).items():
        if isinstance(value, Mapping):
            numbers = [one for one in value.values() if isinstance(one, int)]
            total = sum(numbers) if len(numbers) == len(value) else ""
            lines.append(f"{name:<42} {total:>15}".rstrip())
            lines += [f"  {inner:<40} {one:>15}" for inner, one in value.items()]
        else:
            lines.append(f"{name:<42} {value:>15}")
    return "\n".join(lines)

"""What is measured of the proxy while it is under load, and the verdict on it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MIB = 1024 * 1024
WARM_S = 60.0  # what is filled once (pools, caches, the allocator) is full by then
WARM_SHARE = 0.5  # of the time, at most
MEMORY_S_MIN = 120.0  # a shorter run says nothing of memory: it is all warm-up

GROWTH_MIB_MAX = 6.0
"""Of the fitted line, over the time after warm-up."""
STEP_MIB_MAX = 6.0
"""From the median of the first third after warm-up to that of the last."""
FDS_MAX = 12
"""Descriptors more in the last third than in the first: links come and go, the medians do not."""
TASKS_MAX = 12
LEFT_MAX = 6
"""Descriptors, tasks more than before the first client, when the last one has gone: the warm link
of PostgreSQL, the data and the tracking link of Redis stay."""

LATENCIES_MIN = 500
"""In each third: the quantiles of fewer say nothing, as one cut moves them."""


@dataclass(frozen=True)
class Sample:
    """The proxy at one moment; `at_s` since the load began."""

    at_s: float
    rss_bytes: int
    fds: int
    tasks: int


@dataclass(frozen=True)
class Latencies:
    """Of one kind of work, in one third of the time, seconds."""

    count: int
    p50_s: float
    p95_s: float


def settled(samples: Sequence[Sample], seconds: float) -> list[Sample]:
    """Those after warm-up."""
    warm_s = min(WARM_S, seconds * WARM_SHARE)
    return [sample for sample in samples if sample.at_s >= warm_s]


def thirds(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The first and the last."""
    size = max(1, len(samples) // 3)
    return samples[:size], samples[-size:]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line with the least squares; 0 for fewer than two points."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def memory_slope(samples: Sequence[Sample]) -> float:
    """MiB a second."""
    return slope([(sample.at_s, sample.rss_bytes / MIB) for sample in samples])


def memory_growth(samples: Sequence[Sample]) -> float:
    """MiB, over the time of the samples, by the fitted line."""
    if not samples:
        return 0.0
    return memory_slope(samples) * (samples[-1].at_s - samples[0].at_s)


def quantiles(durations_s: Sequence[float]) -> Latencies:
    """Of at least one duration."""
    ordered = sorted(durations_s)
    last = len(ordered) - 1
    return Latencies(len(ordered), ordered[last // 2], ordered[last * 95 // 100])


def leaks(samples: Sequence[Sample], seconds: float) -> list[str]:
    """What grew under a load that did not; `samples` of the whole run."""
    calm = settled(samples, seconds)
    if len(calm) < 6:
        return [f"only {len(calm)} samples after warm-up"]
    first, last = thirds(calm)
    found = []
    for name, limit in (("fds", FDS_MAX), ("tasks", TASKS_MAX)):
        before, after = (median(getattr(one, name) for one in part) for part in (first, last))
        if after - before > limit:
            found.append(f"{name}: {before:g} in the first third, {after:g} in the last")
    if seconds < MEMORY_S_MIN:
        return found
    growth = memory_growth(calm)
    if growth > GROWTH_MIB_MAX:
        found.append(f"memory grew by {growth:.1f} MiB, as a line through all samples")
    before, after = (median(one.rss_bytes for one in part) / MIB for part in (first, last))
    if after - before > STEP_MIB_MAX:
        found.append(f"memory: {before:.1f} MiB in the first third, {after:.1f} in the last")
    return found


def left_behind(before: Sample, after: Sample) -> list[str]:
    """What stayed when all clients had gone; `before` the first came."""
    found = []
    for name in ("fds", "tasks"):
        more = getattr(after, name) - getattr(before, name)
        if more > LEFT_MAX:
            found.append(f"{more} {name} more than before, with every client gone")
    return found


def slower(
    kind: str, first: Latencies, last: Latencies, machine: tuple[Latencies, Latencies]
) -> list[str]:
    """Whether the work got slower. Wide, as others share the machine; a trend would be wider.

    `machine`: what a statement took without the proxy, then and now: so much slower it may be.
    """
    if min(first.count, last.count) < LATENCIES_MIN:
        return []
    found = []
    for name, factor, more_s in (("p50_s", 2.0, 0.005), ("p95_s", 3.0, 0.05)):
        before, after = getattr(first, name), getattr(last, name)
        direct, direct_now = (max(getattr(one, name), 1e-4) for one in machine)
        if after > before * factor * max(1.0, direct_now / direct) + more_s:
            found.append(f"{kind}: {name} {before:.4f} in the first third, {after:.4f} in the last")
    return found

"""Units that share one answer, because a COPY FROM STDIN or an error took the Sync between them.

Source: PostgreSQL documentation, "COPY Operations" (a Sync in the middle is ignored) and "Extended
Query" (after an error everything up to the next Sync is skipped).
"""

from proxy.postgres.protocol.units import Kind, Unit


def is_broken_row(copy: Unit, unit: Unit) -> bool:
    """True if a unit sent behind a COPY FROM STDIN is read by the COPY, which fails on it.

    A Query is one message, and gone with that; of a batch the simple protocol's COPY eats the first
    message only. A COPY of the extended protocol skips to the Sync, whatever it is. A Flush or Sync
    alone is ignored by both.
    """
    batch = unit.kind is Kind.BATCH and not unit.bare
    return not unit.skip and (copy.kind is Kind.BATCH or not batch)


def ends_with_sync(unit: Unit) -> bool:
    """True for a batch that a Sync ends, and not a Query."""
    return unit.kind is Kind.BATCH and not unit.mixed


def merge(copy: Unit, unit: Unit) -> None:
    """`copy` has lost its Sync, so that what `unit` runs is answered with it."""
    copy.executes = (copy.executes or []) + (unit.executes or [])
    copy.parses = (copy.parses or []) + (unit.parses or [])
    copy.closes = (copy.closes or []) + (unit.closes or [])
    copy.uses = (copy.uses or []) + (unit.uses or [])
    if unit.kind is not Kind.BATCH:
        copy.executes.append((unit.script, b""))
    copy.mixed = copy.mixed or not ends_with_sync(unit)
    copy.watch = copy.watch or unit.watch
    if unit.injected:
        seen = copy.parses_seen
        later = {index + seen: name for index, name in unit.injected.items()}
        copy.injected = {**(copy.injected or {}), **later}

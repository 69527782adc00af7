"""What a run is about: each of these adds to what clients do and to what befalls them.

A scenario is drawn from the seed, by a chance of its own: `PLAIN` runs are what they were before
there were any others. Owns: the list. Must not know: what is done with it.
"""

import random
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Scenario:
    """What a run has besides queries, transactions, settings, and links that die."""

    copy: bool = False  # COPY in and out
    flush: bool = False  # batches that wait at a Flush before their Sync
    pressure: bool = False  # few links, many clients, a short queue
    ageing: bool = False  # links that grow old, idle, and are pinged
    operate: bool = False  # PAUSE, RESUME and RECONNECT under load, and a drain
    notify: bool = False  # LISTEN and NOTIFY, with either listen_loss
    hosts: bool = False  # two of them, of which one takes writes, and not always the same


PLAIN = Scenario()
_OFTEN = 0.3


def drawn(seed: int) -> Scenario:
    """The scenario of a seed: one in six is PLAIN."""
    rng = random.Random(f"{seed} scenario")
    if rng.random() < 1 / 6:
        return PLAIN
    return replace(PLAIN, **{field.name: rng.random() < _OFTEN for field in fields(Scenario)})


def only(*names: str) -> Scenario:
    """PLAIN with these."""
    return replace(PLAIN, **dict.fromkeys(names, True))

"""Times of the event loop told as times of day: for what people read, never for a decision."""

import asyncio
import time


def unix_offset_s() -> float:
    """What to add to the running loop's time for Unix time, now: clocks are set and slewed."""
    return time.time() - asyncio.get_running_loop().time()  # noqa: TID251

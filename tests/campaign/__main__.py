"""`python -m tests.campaign [SEED] [SECONDS]`: a long campaign, its table, and JSON of it."""

import json
import random
import sys
from pathlib import Path

from tests.campaign.stage import Campaign
from tests.campaign.table import as_json, table

SECONDS = 90.0
RESULTS = Path(__file__).resolve().parents[2] / "bench-results"


def main(words: list[str]) -> int:
    """Run one; 0 if every promise was kept and every interesting case was reached."""
    seed = int(words[0]) if words and words[0] else random.SystemRandom().randrange(1_000_000)
    seconds = float(words[1]) if len(words) > 1 and words[1] else SECONDS
    print(f"campaign: seed {seed}, {seconds:.0f} s", flush=True)
    with Campaign(seed, seconds) as campaign:
        result = campaign.run()
    problems = [*result.problems, *(f"never reached: {name}" for name in result.never())]
    print(table(result))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"campaign-{seed}.json"
    file.write_text(json.dumps(as_json(result) | {"problems": problems}, indent=1) + "\n")
    for problem in problems:
        print(f"FAILED: {problem}")
    print(f"{file.relative_to(RESULTS.parent)} written")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

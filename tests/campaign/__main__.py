"""`python -m tests.campaign [SEED] [SECONDS] [FOLDER]`: a campaign, its table, and JSON of it.

`calm` in the place of SECONDS: three minutes of clients that leave the machine to others, as in
`make test`. FOLDER gets the JSON, and the logs of all that ran if a promise was not kept. Runs
itself in a network namespace of its own where it may, for the faults that only a kernel can make.
"""

import json
import random
import sys
from pathlib import Path

from tests.campaign import network
from tests.campaign.stage import Campaign
from tests.campaign.table import as_json, table

SECONDS = 90.0
CALM_S = 180.0
CALM_PACE = 4.0
RESULTS = Path(__file__).resolve().parents[2] / "bench-results"


def main(words: list[str]) -> int:
    """Run one; 0 if every promise was kept and every interesting case was reached."""
    seed = int(words[0]) if words and words[0] else random.SystemRandom().randrange(1_000_000)
    said = words[1] if len(words) > 1 else ""
    calm = said == "calm"
    seconds = CALM_S if calm else float(said or SECONDS)
    folder = Path(words[2]) if len(words) > 2 else RESULTS
    no_network = network.enter("tests.campaign", [str(seed), said, str(folder)])
    print(f"campaign: seed {seed}, {seconds:.0f} s{', calm' if calm else ''}", flush=True)
    if no_network:
        print(f"without the faults of the network itself: {no_network}", flush=True)
    folder.mkdir(exist_ok=True)
    with Campaign(seed, seconds, no_network, pace=CALM_PACE if calm else 1.0) as campaign:
        result = campaign.run()
        problems = list(result.problems)
        if not problems:  # a run that broke off reached little
            problems += [f"never reached: {name}" for name in result.never()]
        print(table(result))
        file = folder / f"campaign-{seed}.json"
        found = as_json(result) | {"problems": problems, "no_network": no_network}
        file.write_text(json.dumps(found, indent=1) + "\n")
        for problem in problems:
            print(f"FAILED: {problem}")
        if result.problems:
            print(*(f"kept: {log}" for log in campaign.keep_logs(folder)), sep="\n")
    print(f"{file} written")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

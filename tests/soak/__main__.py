"""`python -m tests.soak [SEED] [SECONDS] [FOLDER]`: 2000 clients, a cut every second, its table.

250 clients of PostgreSQL and 1750 of Redis: in session mode each PostgreSQL client has a backend
of its own, and a server of 2 cores is no home for 2000 of them; Redis clients share links.
"""

import json
import os
import random
import sys
import tempfile
from pathlib import Path

import uvloop

from proxy.demo.certificates import make_tls
from proxy.demo.servers import PostgresOptions, PostgresServer, RedisServer
from tests.soak.stage import Plan, Soak
from tests.soak.table import as_json, table

SECONDS = 600.0
POSTGRES, REDIS = 250, 1750
RESULTS = Path(__file__).resolve().parents[2] / "bench-results"


def main(words: list[str]) -> int:
    """Run one; 0 if nothing grew, slowed down or was wrong."""
    seed = int(words[0]) if words and words[0] else random.SystemRandom().randrange(1_000_000)
    seconds = float(words[1]) if len(words) > 1 and words[1] else SECONDS
    results = Path(words[2]) if len(words) > 2 else RESULTS
    results.mkdir(exist_ok=True)
    plan = Plan(seed=seed, seconds=seconds, postgres=POSTGRES, redis=REDIS)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"soak: seed {seed}, {seconds:.0f} s; load of the machine before: {load}", flush=True)
    with tempfile.TemporaryDirectory(prefix="bs-") as name:
        folder = Path(name)
        tls = make_tls(folder)
        room = {"max_connections": str(POSTGRES + 100)}
        postgres = PostgresServer(PostgresOptions(settings=room, tls=tls))
        redis = RedisServer()
        try:
            postgres.create().start()
            redis.start()
            result = uvloop.run(Soak(plan, (postgres, redis), tls, folder).run())
            log = (folder / "backstay.log").read_text(errors="replace")
        finally:
            redis.close()
            postgres.close()
    for problem in result.problems:
        print(f"FAILED: {problem}")
    print(table(result))
    file = results / f"soak-{seed}.json"
    samples = [[one.at_s, one.rss_bytes, one.fds, one.tasks] for one in result.samples]
    found = as_json(result) | {"problems": result.problems, "samples": samples}
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if result.problems:
        (results / f"soak-{seed}-backstay.log").write_text(log)
    print(f"load of the machine after: {', '.join(f'{one:.1f}' for one in os.getloadavg())}")
    print(f"{file} written")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The peers' side of `bench_common.peers`: lines of JSON. Runs in their environments, so it imports nothing of ours."""

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def settings():
    """What the benchmark gave."""
    return json.loads(sys.argv[1])


def say(**answer):
    """One line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def serve(make, clock):
    """Make the work and do it once a line; an exception is the reason why the peer is missing."""
    try:
        work = make()
    except Exception as error:
        say(error=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return
    say(ready=True)
    for _ in sys.stdin:
        begun = CLOCKS[clock]()
        work()
        say(seconds=CLOCKS[clock]() - begun)

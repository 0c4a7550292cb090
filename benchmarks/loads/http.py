"""wrk as a load: one request under way on each connection, which wrk makes anew for each window.

A window is a whole number of seconds, for that is what wrk can be told. What it does at its end
costs the server too: replies that wrk no longer counts, one at most for each connection.
"""

import http.client
import json
import math
import os
import resource
import subprocess
from pathlib import Path

from benchmarks.loads import WRK
from benchmarks.loads.window import LoadFailed, Options, Traffic, obey, run
from benchmarks.servers import common

SUMMARY = Path(__file__).with_name("wrk_summary.lua")
GRACE = 20.0
"""Seconds that wrk may take longer than it was told."""


def prove(options: Options) -> None:
    """One request, to see that the server is there and gives the answer.

    :raises LoadFailed: it gives another one
    """
    connection = http.client.HTTPConnection("127.0.0.1", options.port, timeout=GRACE)
    try:
        connection.request("GET", "/")
        reply = connection.getresponse()
        body = reply.read()
        if (reply.status, body) != (http.client.OK, common.HELLO):
            raise LoadFailed(f"the server answered {reply.status} {body!r}")
    except http.client.HTTPException as error:
        raise LoadFailed(f"not an answer: {error!r}") from None
    finally:
        connection.close()


def read_summary(output: str) -> tuple[int, float]:
    """Return the requests and the seconds from what wrk printed.

    :raises LoadFailed: there were errors, or there is no summary in it
    """
    lines = output.strip().splitlines()
    try:
        summary = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise LoadFailed(f"wrk printed no summary: {output!r}") from None
    errors = {name: count for name, count in summary["errors"].items() if count}
    if errors or not summary["requests"]:
        raise LoadFailed(f"wrk made {summary['requests']} requests, errors: {errors}")
    return summary["requests"], summary["microseconds"] / 1e6


def main(options: Options) -> None:
    def measure(seconds: float) -> Traffic:
        whole = max(1, math.ceil(seconds))
        command = [WRK, "-t1", f"-c{options.active}", f"-d{whole}s", "-s", str(SUMMARY)]
        own = _cpu_of_children()
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{options.port}/"],
            capture_output=True,
            text=True,
            check=False,
            timeout=whole + GRACE,
            env={**os.environ, "LC_ALL": "C"},
            preexec_fn=common.die_with_parent,
        )
        if done.returncode:
            raise LoadFailed(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
        return Traffic(*read_summary(done.stdout), _cpu_of_children() - own)

    prove(options)
    obey(options, options.active, measure)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    run(main)

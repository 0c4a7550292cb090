"""wrk, which keeps many connections busy at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from cli.running import serve
from real_programs.programs import file_server, require, run, url

if TYPE_CHECKING:
    from pathlib import Path


@require("wrk")
@pytest.mark.parametrize("threads", ["1", "4"])
def test_forward_under_load(tmp_path: Path, threads: str) -> None:
    (tmp_path / "small").write_bytes(b"small")
    with (
        file_server(tmp_path) as (host, port),
        serve("forward", "--to", f"{host}:{port}", "--threads", threads) as relay,
    ):
        load = ["wrk", "-t1", "-c50", "-d2s", "--timeout", "20s"]
        out = run(*load, url(relay.address, "small")).decode()
        result = relay.stop()
    requests = re.search(r"(\d+) requests in", out)
    assert requests is not None, out
    assert int(requests[1]) > 50, out
    # wrk counts connections that failed or broke, and answers that are not 2xx or 3xx
    assert "Socket errors" not in out
    assert "Non-2xx" not in out
    assert result.code == 0
    assert "Traceback" not in result.err
    served = re.search(r"served (\d+) connections", result.out)
    assert served is not None
    assert int(served[1]) >= 50

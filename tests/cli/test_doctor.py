"""`netpoll doctor`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cli.running import Result, run

import netpoll
from netpoll import backends
from netpoll.backends.io_uring import library
from netpoll.backends.selectors import readiness

if TYPE_CHECKING:
    from pathlib import Path

UNSET = {"NETPOLL_BACKEND": None, "NETPOLL_CONFIG": None}


def examine(**environment: str) -> tuple[Result, dict[str, Any]]:
    result = run("doctor", "--json", environment={**UNSET, **environment})
    return result, json.loads(result.out)


def test_json() -> None:
    result, found = examine()
    assert (result.code, result.err) == (0, "")
    assert list(found["backends"]) == list(backends.NAMES)
    for name, backend in found["backends"].items():
        candidate = backends.probe(name)
        assert (backend["usable"], backend["reason"]) == (candidate.usable, candidate.reason)
        assert list(backend["capabilities"]) == [opcode.value for opcode in netpoll.Opcode]
    assert found["backends"]["selectors"]["selectors"] == readiness.available()
    assert found["selection"]["source"] == "automatic"
    assert found["configuration"] == UNSET
    assert found["system"]["python"]


def test_capabilities_are_those_of_a_port() -> None:
    _, found = examine()
    for name, backend in found["backends"].items():
        if not backend["usable"]:
            levels = {level for level, _ in backend["capabilities"].values()}
            assert levels == {"unsupported"}
            continue
        with netpoll.CompletionPort(name) as port:
            for opcode, (level, reason) in backend["capabilities"].items():
                capability = port.capability(opcode)
                assert (level, reason) == (str(capability), capability.reason)


def test_text() -> None:
    result = run("doctor", environment=UNSET)
    assert (result.code, result.err) == (0, "")
    for word in (*backends.NAMES, *netpoll.Opcode, "open files", "source: automatic"):
        assert word in result.out


def test_a_backend_that_is_not_here_says_what_it_does_elsewhere() -> None:
    _, found = examine()
    text = run("doctor", environment=UNSET).out
    absent = {name: each for name, each in found["backends"].items() if not each["usable"]}
    assert ("In brackets" in text) == any("elsewhere" in each for each in absent.values())
    for name, backend in found["backends"].items():
        assert "elsewhere" not in backend or name in absent
    for name, backend in absent.items():
        if backends.capabilities_elsewhere(name) is None:
            continue
        assert list(backend["elsewhere"]) == [opcode.value for opcode in netpoll.Opcode]
        assert {level for level, _ in backend["elsewhere"].values()} == {"native", "emulated"}
        assert "(native)" in text
        assert "(emulated)" in text


def test_without_cffi_nothing_is_said_of_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = next((name for name in backends.NAMES if not backends.probe(name).usable), None)
    if absent is None:
        pytest.skip("this machine has every backend")
    module = f"netpoll.backends.{absent}.operations"
    monkeypatch.setitem(sys.modules, module, None)
    assert backends.capabilities_elsewhere(absent) is None


def test_the_environment_is_in_force() -> None:
    result, found = examine(NETPOLL_BACKEND="selectors")
    assert result.code == 0
    assert found["configuration"]["NETPOLL_BACKEND"] == "selectors"
    assert found["selection"]["source"] == "NETPOLL_BACKEND"


def test_the_configuration_file_is_in_force(tmp_path: Path) -> None:
    path = tmp_path / "netpoll.toml"
    path.write_text('backend = "selectors"\n[selectors]\nselector = "select"\n')
    result, found = examine(NETPOLL_CONFIG=str(path))
    assert result.code == 0
    assert found["selection"]["backend"] == "selectors"
    assert found["selection"]["options"] == {"selector": "select"}
    assert str(path) in found["selection"]["source"]


@pytest.mark.parametrize(
    "environment",
    [{"NETPOLL_BACKEND": "nonsense"}, {"NETPOLL_CONFIG": "/nowhere/netpoll.toml"}],
    ids=["backend", "file"],
)
def test_a_configuration_that_lets_no_port_open(environment: dict[str, str]) -> None:
    result, found = examine(**environment)
    assert result.code == 1
    assert found["selection"]["backend"] is None
    assert found["selection"]["error"]
    # what the machine could do is still there to see
    assert found["backends"]["selectors"]["usable"]
    text = run("doctor", environment={**UNSET, **environment})
    assert text.code == 1
    assert "cannot be opened" in text.out
    assert "Traceback" not in text.err


def test_what_io_uring_is_set_up_with() -> None:
    _, found = examine()
    found_here = found["backends"]["io_uring"]
    support = library.probe()
    assert found_here["usable"] == support.usable
    if not support.usable:
        pytest.skip(f"io_uring does not work here: {support.reason}")
    assert found_here["flags"] == list(support.flags)
    assert found_here["features"] == list(support.features)
    for name in (*support.flags, *support.features):
        assert name in found_here["reason"]

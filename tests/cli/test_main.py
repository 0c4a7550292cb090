"""The command as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cli.running import run

import netpoll

COMMANDS = ["conformance", "demo", "doctor", "serve"]


def test_help_names_every_command() -> None:
    result = run("--help")
    assert (result.code, result.err) == (0, "")
    for command in COMMANDS:
        assert f"netpoll {command}" in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_examples(command: str) -> None:
    result = run(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert "examples:" in result.out
    assert max(map(len, result.out.splitlines())) <= 110


def test_version() -> None:
    assert run("--version").out == f"netpoll {netpoll.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["doctor", "--nonsense"], ["serve"], ["serve", "nonsense"]],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_line(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert "--help" in result.err


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "netpoll", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err

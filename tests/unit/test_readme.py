"""The README says what is true: its code runs, its commands and links exist."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli.running import LISTENING, Running

import netpoll
from netpoll import backends
from netpoll.testing.waiting import DEADLINE

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(
    not README.is_file(), reason="the README comes with the source, which is not here"
)


def text(path: Path = README) -> str:
    return path.read_text(encoding="utf-8")


def blocks(language: str, path: Path = README) -> list[str]:
    """The code blocks of one language, without the indentation that a list gives them."""
    pattern = rf"^( *)```{language}\n(.*?)^ *```$"
    return [
        re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
        for indent, code in re.findall(pattern, text(path), re.MULTILINE | re.DOTALL)
    ]


def test_its_echo_is_the_example() -> None:
    examples = ("echo.py", "asyncio_echo.py")
    assert blocks("python") == [text(ROOT / "examples" / name) for name in examples]


def test_its_echo_runs(tmp_path: Path) -> None:
    program = tmp_path / "echo.py"
    program.write_text(blocks("python")[0], encoding="utf-8")
    with Running(str(program)) as server:
        for _ in range(2):
            with socket.create_connection(server.address, DEADLINE) as client:
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
                with client.makefile("rb") as stream:
                    assert stream.read() == b"hello"
        assert LISTENING.match(server.out)
        assert "Traceback" not in server.err


def test_its_asyncio_echo_runs(tmp_path: Path) -> None:
    program = tmp_path / "asyncio_echo.py"
    program.write_text(blocks("python")[1], encoding="utf-8")
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'hello'\n", "")


def test_its_two_commands_are_those_of_contributing() -> None:
    both = [line for block in blocks("sh") for line in block.splitlines() if "bootstrap" in line]
    assert both == blocks("sh", ROOT / "CONTRIBUTING.md")[0].splitlines()
    for line in both:
        program = line.split()[1]
        assert (ROOT / program).is_file()


def test_its_table_of_backends_is_honest() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", text(), re.MULTILINE))
    assert set(rows) == set(backends.NAMES)
    for name, status in rows.items():
        assert status.startswith("works"), name


def test_its_configuration_file_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "netpoll.toml"
    (content,) = blocks("toml")
    # not every system has the selector of the example
    path.write_text(content.replace('"poll"', '"select"'), encoding="utf-8")
    monkeypatch.delenv("NETPOLL_BACKEND", raising=False)
    monkeypatch.setenv("NETPOLL_CONFIG", str(path))
    with netpoll.CompletionPort() as port:
        assert port.backend == "selectors"
        assert port.selection.options == {"selector": "select"}


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_it_is_short() -> None:
    assert len(text().splitlines()) < 180

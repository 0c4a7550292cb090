"""The command on a terminal: a pseudo-terminal stands for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from netpoll.testing.waiting import DEADLINE, wait_until

if sys.platform == "win32":
    pytest.skip("Windows has no pseudo-terminals in Python", allow_module_level=True)
else:
    import fcntl
    import pty
    import struct
    import termios

assert sys.platform != "win32"  # type checkers take it to the end of the file
RICH = [True, False]
PROGRAM = "import sys; from netpoll.cli import main; sys.exit(main())"


class Terminal:
    """`netpoll` with these arguments, on a terminal of its own.

    :param rich: whether it finds the package of that name
    """

    def __init__(self, *arguments: str, rich: bool) -> None:
        if rich:
            pytest.importorskip("rich", reason="rich is not installed: pip install 'netpoll[cli]'")
        program = PROGRAM if rich else f"import sys; sys.modules['rich'] = None; {PROGRAM}"
        self._outer, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self._shown: list[bytes] = []
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(inner)
        self._watcher.start()

    def _watch(self) -> None:
        # the other end of a closed terminal is an error on Linux, an end of file elsewhere
        with contextlib.suppress(OSError):
            while part := os.read(self._outer, 4096):
                self._shown.append(part)

    @property
    def text(self) -> str:
        """What it has shown so far."""
        return b"".join(self._shown).decode()

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(DEADLINE)
        self._watcher.join(DEADLINE)
        return code

    def close(self) -> None:
        """End it, if it has not."""
        self.process.kill()
        self.process.wait()
        self._watcher.join(DEADLINE)
        os.close(self._outer)


@pytest.mark.parametrize("rich", RICH, ids=["rich", "plain"])
def test_figures_while_serving(rich: bool) -> None:
    with contextlib.closing(Terminal("serve", "echo", rich=rich)) as terminal:
        wait_until(lambda: "completions" in terminal.text, "the figures")
        terminal.process.terminate()
        assert terminal.ended() == 0
        assert "Traceback" not in terminal.text
        assert "served 0 connections" in terminal.text
        assert ("\x1b[" in terminal.text) == rich


@pytest.mark.parametrize("rich", RICH, ids=["rich", "plain"])
def test_no_figures_where_nobody_wants_them(rich: bool) -> None:
    arguments = ("serve", "echo", "--quiet")
    with contextlib.closing(Terminal(*arguments, rich=rich)) as terminal:
        wait_until(lambda: "listening on" in terminal.text, "the address")
        terminal.process.terminate()
        assert terminal.ended() == 0
        assert len(terminal.text.splitlines()) == 1


@pytest.mark.parametrize("rich", RICH, ids=["rich", "plain"])
@pytest.mark.parametrize("command", ["doctor", "demo"])
def test_tables(command: str, rich: bool) -> None:
    with contextlib.closing(Terminal(command, rich=rich)) as terminal:
        assert terminal.ended() == 0
        assert "Traceback" not in terminal.text
        assert "selectors" in terminal.text
        assert ("\x1b[" in terminal.text) == rich

"""Whether io_uring is used, and what is said where it is not: containers forbid it, each in its
way."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from backends.uring import needs_io_uring

from netpoll import CompletionPort, backends
from netpoll.backends.io_uring import library
from netpoll.testing.waiting import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="io_uring is Linux's")

FORBID = """
    import ctypes, struct

    def forbid(error):
        '''Have every io_uring_setup of this process fail, as a container's seccomp profile does.'''
        instructions = [
            (0x20, 0, 0, 0),  # load the number of the system call
            (0x15, 0, 1, 425),  # if it is io_uring_setup
            (0x06, 0, 0, 0x00050000 | error),  # it fails
            (0x06, 0, 0, 0x7FFF0000),  # others are allowed
        ]
        program = b"".join(struct.pack("=HBBI", *each) for each in instructions)
        buffer = ctypes.create_string_buffer(program, len(program))
        whole = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        no_new_privileges, set_seccomp, filter = 38, 22, 2
        if prctl(no_new_privileges, 1, 0, 0, 0) or prctl(set_seccomp, filter, whole):
            print(f"no seccomp filter can be set here: errno {ctypes.get_errno()}")
            raise SystemExit(3)
"""
OPEN = """
    import json, netpoll

    found = {}
    for name in (None, "io_uring"):
        try:
            with netpoll.CompletionPort(name) as port:
                found[str(name)] = [port.backend, port.selection.source, str(port.selection)]
        except (OSError, netpoll.UnsupportedOperation) as error:
            found[str(name)] = [type(error).__name__, error.errno, str(error)]
    print(json.dumps(found))
"""


def open_where_forbidden(error: int) -> tuple[dict[str, list[Any]], str]:
    """What a port says that is left to choose, and one that is to be io_uring's; and stderr."""
    source = f"{dedent(FORBID)}\nforbid({error})\n{dedent(OPEN)}"
    command = [sys.executable, "-c", source]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, env={})
    if ended.returncode == 3:
        pytest.skip(ended.stdout.strip())
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout), ended.stderr


CURES = {
    errno.EPERM: "io_uring_enter",  # of a seccomp profile, or the sysctl: the machine's
    errno.ENOSYS: "seccomp profile",
    errno.EACCES: "SELinux",
    errno.EINVAL: "Linux 6.1",
    errno.ENOMEM: "ulimit -l",
}


@pytest.mark.parametrize("error", CURES, ids=lambda error: errno.errorcode[error])
def test_where_it_is_forbidden_automatic_choice_goes_on_and_says_why(error: int) -> None:
    found, said = open_where_forbidden(error)
    cure = CURES[error]
    backend, source, selection = found["None"]
    assert (backend, source) == ("selectors", "automatic")
    assert "io_uring: not usable, io_uring_setup said" in selection
    assert cure in selection
    kind, number, message = found["io_uring"]
    assert (kind, number) == ("UnsupportedOperation", errno.EOPNOTSUPP)
    assert "'io_uring', named by argument" in message
    assert cure in message
    assert "selectors" in message
    assert ("ulimit -l" in said) == (error == errno.ENOMEM)
    assert said.count("\n") == (error == errno.ENOMEM)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE], ids=["EMFILE", "ENFILE"])
def test_what_has_nothing_to_do_with_io_uring_is_told(error: int) -> None:
    """A process without a descriptor left should hear that, and not go on more slowly for ever."""
    found, _ = open_where_forbidden(error)
    for kind, number, message in found.values():
        assert (kind, number) == ("OSError", error)
        assert "io_uring_setup" in message


# -- in this process -------------------------------------------------------------------------------


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.EPERM)


def refuse(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def setup(*_: object) -> int:
        return -error

    monkeypatch.setattr(library.Syscalls, "setup", setup)


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("0\n", "forbidden by a seccomp profile"),
        ("1\n", "kernel.io_uring_disabled, which is 1: set it to 0"),
        ("2\n", "kernel.io_uring_disabled, which is 2: set it to 0"),
        (None, "forbidden by a seccomp profile"),
    ],
)
def test_the_sysctl_is_told_from_a_seccomp_profile(
    content: str | None, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "io_uring_disabled"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(library, "SYSCTL", str(path))
    support = library.probe.__wrapped__()
    assert not support.usable
    assert support.error == errno.EPERM
    assert cause in support.reason


def test_without_memory_the_log_names_the_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(monkeypatch, errno.ENOMEM)
    with caplog.at_level(logging.WARNING, "netpoll"):
        assert not library.probe.__wrapped__().usable
    [record] = caplog.records
    assert "ulimit -l" in record.getMessage()


@needs_io_uring
@pytest.mark.parametrize("missing", ["nodrop", "recv", "COOP_TASKRUN"])
def test_a_kernel_that_lacks_something_is_not_used(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "nodrop":
        monkeypatch.setattr(library, "FEATURES", {missing: 1 << 31})
    elif missing == "recv":
        monkeypatch.setattr(library, "OPERATIONS", {**library.OPERATIONS, missing: 255})
    else:
        without = {name: bit for name, bit in library.SHARED.items() if name != missing}
        monkeypatch.setattr(library, "SHARED", without)
    support = library.probe.__wrapped__()
    assert not support.usable
    assert f"lacks: {missing};" in support.reason


@needs_io_uring
def test_where_it_works_the_choice_says_with_what() -> None:
    with CompletionPort("io_uring") as port:
        reason = port.selection.candidates[-1].reason
    assert reason == backends.probe("io_uring").reason
    for word in ("io_uring of Linux", "COOP_TASKRUN", "SUBMIT_ALL", "nodrop"):
        assert word in reason

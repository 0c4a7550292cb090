"""What may be associated, and that it is only once."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

from netpoll import status as nt
from netpoll.errors import AlreadyAssociated
from netpoll.files import File

if TYPE_CHECKING:
    import subprocess
    from typing import TypeGuard

    from netpoll.port import CompletionPort


class OnlyPolled(socket.socket):
    """A second handle of a socket, for nothing but polls.

    On Windows all handles of a socket share its one association, so this one must not take it from
    another port, or before another: AFD, which is what polls it, has handles of its own.
    """


class _Use:
    """Which port a handle is used with, and whether it is associated with it."""

    __slots__ = ("associated", "handle", "port")

    def __init__(self, handle: Any, port: CompletionPort) -> None:
        self.handle: weakref.ref[Any] = weakref.ref(handle)
        self.port: weakref.ref[CompletionPort] = weakref.ref(port)
        self.associated: bool = False


class _Uses:
    """The use of each handle, by identity, for as long as the handle lives.

    Not a `WeakKeyDictionary`: that runs Python code when a handle is collected, and a Ctrl-C that
    falls into it is lost ("Exception ignored in"). Here the dead are swept out now and then
    instead.
    """

    def __init__(self) -> None:
        self._by_id: dict[int, _Use] = {}
        self._sweep_at = 64

    def get(self, handle: Any) -> _Use | None:
        use = self._by_id.get(id(handle))
        return use if use is not None and use.handle() is handle else None

    def set(self, handle: Any, use: _Use) -> None:
        self._by_id[id(handle)] = use
        if len(self._by_id) > self._sweep_at:
            for number, other in list(self._by_id.items()):
                if other.handle() is None:
                    self._by_id.pop(number, None)
            self._sweep_at = 2 * len(self._by_id) + 64

    def forget(self, handle: Any) -> None:
        if self.get(handle) is not None:
            self._by_id.pop(id(handle), None)


_uses = _Uses()
_lock = threading.Lock()


class claim:
    """Associate a handle, within the block; undone if the block raises.

    An association lasts as long as the handle (ASSOC-04), also when its port has been closed: a
    program that relies on anything else fails on Windows, so it shall fail everywhere.

    Not a generator, which costs each connection a microsecond more.

    :raises AlreadyAssociated: some port has it (ASSOC-01), or another port has operations pending
        on it
    """

    __slots__ = ("_handle", "_port")

    def __init__(self, handle: Any, port: CompletionPort) -> None:
        self._handle: Any = handle
        self._port: CompletionPort = port

    def __enter__(self) -> None:
        handle, port = self._handle, self._port
        _lock.acquire()
        try:
            use = _uses.get(handle)
            if use is not None and use.associated:
                raise _taken(
                    handle, "belongs to a completion port already, for as long as it is open"
                )
            if use is not None and _pending_elsewhere(handle, use, port):
                raise _taken(
                    handle, "has operations pending that were started through another port"
                )
        except BaseException:
            _lock.release()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                claimed = _Use(self._handle, self._port)
                claimed.associated = True
                _uses.set(self._handle, claimed)
        finally:
            _lock.release()


def note_use(handle: Any, port: CompletionPort) -> None:
    """An operation is about to be started on `handle` through `port`.

    :raises AlreadyAssociated: its completion would never come to this port
    """
    use = _uses.get(handle)
    if use is not None and use.port() is port:
        return
    if use is not None and use.associated:
        raise _taken(
            handle, "belongs to another completion port, which has to start its operations"
        )
    if use is not None and _pending_elsewhere(handle, use, port):
        raise _taken(handle, "has operations pending that were started through another port")
    _uses.set(handle, _Use(handle, port))


def forget(handle: Any) -> None:
    """`handle` has been closed."""
    _uses.forget(handle)


def port_of(handle: Any) -> CompletionPort | None:
    """The port that the handle is associated with, as long as somebody holds that."""
    use = _uses.get(handle)
    return use.port() if use is not None and use.associated else None


def _pending_elsewhere(handle: Any, use: _Use, port: CompletionPort) -> bool:
    other = use.port()
    if other is None or other is port:
        return False
    return any(each.handle is handle for each in other.inflight())


def _taken(handle: Any, why: str) -> OSError:
    return nt.make_exception(
        nt.STATUS_INVALID_PARAMETER,
        kind=AlreadyAssociated,
        message=f"fd {handle.fileno()} {why}; open another socket for another port",
    )


def require_socket(handle: Any) -> None:
    """
    :raises TypeError: not a handle at all, or a TLS socket
    :raises OSError: closed (6), or a handle that overlapped operations do not work on (87)
    """
    if not isinstance(handle, socket.socket):
        if not hasattr(handle, "fileno"):
            raise TypeError(f"a handle is a socket, not {type(handle).__name__}")
        raise nt.make_exception(  # ASSOC-02
            nt.STATUS_INVALID_PARAMETER,
            message=f"this operation works on sockets, not on {type(handle).__name__}; files and "
            "pipes are for read_into() and write(), whose handles netpoll.open_file() and "
            "netpoll.pipe() make on every system",
        )
    if handle.fileno() < 0:
        raise nt.make_exception(nt.STATUS_INVALID_HANDLE, message="the socket is closed")
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(handle, ssl.SSLSocket):
        raise TypeError(
            "a TLS socket does its own reading and writing; use ssl.MemoryBIO with a plain socket"
        )


def require_handle(handle: Any) -> None:
    """Refuse what no operation works on. As `require_socket`, for sockets, files and pipes."""
    if isinstance(handle, socket.socket) or not hasattr(handle, "fileno"):
        require_socket(handle)
    else:
        require_file(handle)


def require_file(handle: Any) -> None:
    """
    :raises TypeError: not a handle at all, or a socket
    :raises OSError: closed (6); or what is not opened for overlapped operations (87, ASSOC-02)
    """
    if isinstance(handle, socket.socket):
        raise TypeError("read_into() and write() are for files and pipes: recv_into() and send()")
    kind = type(handle).__name__
    if not hasattr(handle, "fileno"):
        raise TypeError(f"a handle is a file, a pipe or a socket, not {kind}")
    if number_of(handle) < 0:
        raise nt.make_exception(nt.STATUS_INVALID_HANDLE, message="the file is closed")
    if isinstance(handle, File):
        return
    if os.name == "nt":
        refused = f"Python opens a {kind} without overlapped operations: use netpoll.open_file() "
        raise nt.make_exception(nt.STATUS_INVALID_PARAMETER, message=f"{refused}or netpoll.pipe()")
    mode = os.fstat(handle.fileno()).st_mode
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "a socket: wrap it in socket.socket()"
        raise nt.make_exception(
            nt.STATUS_INVALID_PARAMETER, message=f"overlapped operations do not work on {what}"
        )
    try:
        weakref.ref(handle)
    except TypeError:
        raise TypeError(f"a handle has to take weak references, which a {kind} does not") from None


def require_pollable(handle: Any) -> None:
    """As `require_socket`; on POSIX also what else can be ready: a pipe, a terminal."""
    if isinstance(handle, socket.socket):
        require_socket(handle)
        return
    if os.name == "nt":
        require_socket(handle)
    require_handle(handle)
    if stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        raise nt.make_exception(
            nt.STATUS_INVALID_PARAMETER,
            message="a file is always ready: there is nothing to poll for",
        )


def is_process(handle: Any) -> TypeGuard[subprocess.Popen[Any]]:
    """Whether it is a `subprocess.Popen`. Who has one has loaded its module, which netpoll does
    not: it is as large as netpoll itself."""
    module = sys.modules.get("subprocess")
    return module is not None and isinstance(handle, module.Popen)


def require_waitable(handle: Any) -> None:
    """
    :raises TypeError: nothing that `CompletionPort.wait` can wait for
    :raises OSError: it is closed (6)
    """
    if is_process(handle):
        return
    if isinstance(handle, socket.socket):
        raise TypeError("wait() is for processes and events; poll() waits for a socket")
    name = "handle" if sys.platform == "win32" else "fileno"
    if not hasattr(handle, name):
        raise TypeError(
            f"wait() takes a subprocess.Popen or an object with {name}, not {type(handle).__name__}"
        )
    if sys.platform != "win32" and number_of(handle) < 0:
        raise nt.make_exception(nt.STATUS_INVALID_HANDLE, message="the handle is closed")


def number_of(handle: Any) -> int:
    """Its descriptor; -1 if it is closed, which files tell by an exception."""
    try:
        number: int = handle.fileno()
    except ValueError:
        return -1
    return number

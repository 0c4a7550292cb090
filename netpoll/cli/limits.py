"""How many files this process may have open."""

from __future__ import annotations

import sys


def open_files() -> tuple[int | None, int | None]:
    """The limit in force and the one it can be raised to; `None` where there is none to speak
    of.
    """
    if sys.platform == "win32":
        return None, None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinity = resource.RLIM_INFINITY
    return (None if soft == infinity else soft), (None if hard == infinity else hard)


def raise_open_files() -> None:
    """Raise the limit as far as this process may: each connection is an open file.

    The usual 1,024 is there for programs that use select(), which breaks beyond that.
    """
    if sys.platform == "win32":
        return
    import contextlib
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS refuses what it itself reports as the hard limit: "unlimited" means 10,240 there
    for target in (hard, 10240):
        if soft == resource.RLIM_INFINITY or (target != resource.RLIM_INFINITY and soft >= target):
            return
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            return

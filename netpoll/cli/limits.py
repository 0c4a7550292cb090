"""How many files this process may have open: each connection is one."""

from __future__ import annotations

import contextlib
import sys

if sys.platform != "win32":
    import resource

    def open_files() -> tuple[int | None, int | None]:
        """The limit in force and the one it can be raised to; `None` where there is none."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        infinity = resource.RLIM_INFINITY
        return (None if soft == infinity else soft), (None if hard == infinity else hard)

    def raise_open_files() -> None:
        """Raise the limit as far as this process may.

        The usual 1,024 is there for programs that use select(), which breaks beyond that.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        infinity = resource.RLIM_INFINITY
        # macOS refuses what it itself reports as the hard limit: "unlimited" means 10,240 there
        for target in (hard, 10240):
            if soft == infinity or (target != infinity and soft >= target):
                return
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
                return

else:

    def open_files() -> tuple[int | None, int | None]:
        """Windows has no such limit."""
        return None, None

    def raise_open_files() -> None:
        """There is nothing to raise."""

"""How a conformance test says that a backend cannot keep a statement.

That is neither a pass nor a failure, and never silent: the table of `netpoll conformance` shows it
as "unsupported" with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from netpoll import CompletionPort, Opcode


def unsupported(reason: str, *ids: str) -> NoReturn:
    """End the test: the backend, or this machine, cannot keep these statements.

    :param reason: why, for the table; of a backend it should be found in `docs/platforms.md` as
        well
    :param ids: the statements; without any, all that the test is marked with. Statements of the
        mark that are not named here are not decided by this test.
    """
    import pytest  # here, because netpoll itself does not need it

    error = pytest.skip.Exception(f"unsupported: {reason}", _use_item_location=True)
    vars(error)["netpoll_unsupported"] = (reason, ids)
    raise error


def require(port: CompletionPort, operation: Opcode | str, *ids: str) -> None:
    """End the test as `unsupported` unless the port's backend has this operation."""
    capability = port.capability(operation)
    if capability == "unsupported":
        unsupported(f"{operation}: {capability.reason}", *ids)

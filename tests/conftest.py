"""What tests share comes from netpoll's plugin, which other people's backends use as well."""

import os
import signal

import pytest

# pytester runs small suites of their own, in the tests of that plugin
pytest_plugins = ["netpoll.testing.plugin", "pytester"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts a background job with Ctrl-C ignored, and children inherit that:
    # the programs that the tests interrupt would go on for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# optional: `netpoll conformance` asks for pytest and pytest-timeout, not for xdist
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two processes for each processor: about half of the suite is waiting."""
    return 2 * (os.cpu_count() or 1)

"""Libraries that are not ours, which run on our loop as they are."""

from __future__ import annotations

import ssl
import warnings
from typing import Any, TypeAlias

import pytest

Contexts: TypeAlias = tuple[ssl.SSLContext, ssl.SSLContext]
"""A server's, and its client's."""
MaybeContexts: TypeAlias = Contexts | tuple[None, None]
"""With TLS, or without."""


def library(name: str) -> Any:
    """A module of the dependency group `programs`. The test is skipped where it is not installed,
    or does not load (cryptography, which is behind trustme, under Wine 8)."""
    with warnings.catch_warnings():
        # what a library thinks of another is not ours to mend
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip(name, exc_type=ImportError)

"""The macros for a WORD, which the version of Winsock is."""

from __future__ import annotations


def MAKEWORD(bLow: int, bHigh: int) -> int:
    """Two bytes in one number: MAKEWORD(2, 2) is Winsock 2.2."""
    return bLow & 0xFF | (bHigh & 0xFF) << 8


def LOBYTE(w: int) -> int:
    """Its low byte."""
    return w & 0xFF


def HIBYTE(w: int) -> int:
    """Its high byte."""
    return w >> 8 & 0xFF

"""Watching a port: what happens on it, told to an `Instrument`, and those that come along."""

from netpoll.instruments.base import Instrument, operation_of
from netpoll.instruments.statistics import Statistics
from netpoll.instruments.trace import Trace

__all__ = ["Instrument", "Statistics", "Trace", "operation_of"]

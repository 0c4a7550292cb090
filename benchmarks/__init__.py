"""The CPU time of a message, netpoll beside its peers: ``python -m benchmarks --help``."""

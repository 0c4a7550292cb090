"""The measured programs, one small file each: ``python -m benchmarks.servers.NAME [ARGUMENT]``.

Each listens on a loopback port of the system's choice, prints ``{"port": N}`` and echoes until it
is killed. Each is written the way its library's own documentation would write it for speed.
"""

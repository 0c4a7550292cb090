"""Run by the CPython that tools/wine_python.py has just built: does it work, and what is it?

Its parts come from three places, so what depends on two of them is tried: the DLL and the standard
library need not be of the same patch release.
"""

import importlib
import sys

PARTS = """
asyncio cffi colorama ctypes decimal hashlib hypothesis importlib.metadata json lzma
multiprocessing.connection pickle platform psutil pycparser pytest pytest_timeout rich select
socket sqlite3 ssl tomllib unittest.mock uuid xdist xml.etree.ElementTree zoneinfo
"""

for name in PARTS.split():
    importlib.import_module(name)
importlib.invalidate_caches()
print(sys.version)

"""A thread that computes beside the server: it runs while standard input says so.

``on`` starts it, ``off`` stops it. Either is answered with ``{"loops": N}``, how far it came since
it was started. It is plain Python, so it holds the interpreter until another thread asks for it.
"""

import json
import sys
import threading

LOOPS = 10_000
"""About a tenth of a millisecond; between them it looks whether to go on."""


class Computing:
    def __init__(self) -> None:
        self._on = threading.Event()
        self._loops = 0

    def start(self) -> None:
        threading.Thread(target=self._compute, daemon=True).start()
        threading.Thread(target=self._obey, daemon=True).start()

    def _compute(self) -> None:
        while self._on.wait():
            for _ in range(LOOPS):
                pass
            self._loops += LOOPS

    def _obey(self) -> None:
        for line in sys.stdin:
            if line == "on\n":
                self._loops = 0
                self._on.set()
            else:
                self._on.clear()
            print(json.dumps({"loops": self._loops}), flush=True)

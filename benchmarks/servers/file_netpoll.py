"""Sends a file for each byte, by netpoll's `sendfile`: ``file_netpoll BACKEND``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netpoll
from benchmarks.servers import common, ports

if TYPE_CHECKING:
    from typing import BinaryIO


def serve(backend: str, file: BinaryIO) -> None:
    port = ports.open_port(backend)
    listener = common.listen()
    port.associate(listener)
    port.accept(listener)
    while True:
        for completion in port.get_many():
            operation = completion.overlapped
            if operation.opcode is netpoll.Opcode.ACCEPT:
                connection, _ = completion.result()
                port.resubmit(operation)
                port.associate(connection)
                port.recv_into(connection, bytearray(1))
            elif completion.error or not completion.transferred:
                port.close_handle(operation.handle)
            elif operation.opcode is netpoll.Opcode.RECV_INTO:
                sending: netpoll.Overlapped[Any] = netpoll.Overlapped(context=operation)
                port.sendfile(operation.handle, file, overlapped=sending)
            else:
                port.resubmit(operation.context)


if __name__ == "__main__":
    with Path(os.environ[common.FILE]).open("rb") as file:
        serve(sys.argv[1] if len(sys.argv) > 1 else "selectors", file)

"""netpoll echoing datagrams by its public names, on the backend that the first argument names.

What is prepared once is started again for ever. The backends are fast in two ways:

* `io_uring` receives by one system call what the pending receives have room for, and sends the
  answers by another: so some dozens are pending, each with a buffer and the send that goes with it.
* On `selectors` each datagram is a system call, and a receive mostly finishes within its start: so
  one is pending, with a send for each peer, all on one buffer, and `skip_on_success` saves the
  packets.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import netpoll
from benchmarks.servers import common, ports

if TYPE_CHECKING:
    import socket

    Receive = netpoll.Overlapped[tuple[int, Any]]

PENDING = 80
"""While some wait for their answers to go out, the others receive: about half of them each turn.
5 % cheaper than 32; 128 is dearer again."""
RECVFROM_INTO = netpoll.Opcode.RECVFROM_INTO


def serve_by_the_dozen(port: netpoll.CompletionPort, sock: socket.socket) -> None:
    get_many, resubmit = port.get_many, port.resubmit
    for _ in range(PENDING):
        receive: Receive = netpoll.Overlapped()
        receive.context = netpoll.Overlapped(context=receive)
        port.recvfrom_into(sock, bytearray(common.BUFFER_SIZE), overlapped=receive)
    while True:
        answered: list[Receive] = []
        for completion in get_many(PENDING):
            operation = completion.overlapped
            if operation.opcode is RECVFROM_INTO:
                size, address = completion.result()
                send = operation.context
                if send.opcode is None:
                    port.sendto(sock, operation.buffers, address, size=size, overlapped=send)
                else:
                    resubmit(send, size, address)
            else:
                answered.append(operation.context)
        for _, error in port.resubmit_many(answered):
            raise error


def serve_one_by_one(port: netpoll.CompletionPort, sock: socket.socket) -> None:
    buffer = bytearray(common.BUFFER_SIZE)
    receive = port.recvfrom_into(sock, buffer)
    sends: dict[Any, netpoll.Overlapped[int]] = {}
    get_many, resubmit = port.get_many, port.resubmit
    while True:
        while receive.done:
            size, address = receive.result()
            send = sends.get(address)
            if send is None:
                send = sends[address] = port.sendto(sock, buffer, address, size=size)
            else:
                resubmit(send, size=size)
            if not send.done:
                break
            resubmit(receive)
        for completion in get_many():
            if completion.overlapped is not receive:
                resubmit(receive)


def serve(backend: str) -> None:
    port = ports.open_port(backend)
    sock = common.bind()
    if backend == "io_uring":
        port.associate(sock)
        serve_by_the_dozen(port, sock)
    else:
        port.associate(sock, skip_on_success=True)
        serve_one_by_one(port, sock)


if __name__ == "__main__":
    serve(sys.argv[1] if len(sys.argv) > 1 else "selectors")

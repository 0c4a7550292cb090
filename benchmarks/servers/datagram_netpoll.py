"""netpoll echoing datagrams by its public names, on the backend that the first argument names.

One receive, and one send for each peer, all on one buffer: prepared once and resubmitted for ever.
`skip_on_success` saves the packets of what finishes within its start.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks.servers import common, ports

if TYPE_CHECKING:
    import netpoll


def serve(backend: str) -> None:
    port = ports.open_port(backend)
    sock = common.bind()
    port.associate(sock, skip_on_success=True)
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


if __name__ == "__main__":
    serve(sys.argv[1] if len(sys.argv) > 1 else "selectors")

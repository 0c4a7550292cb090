"""Numbers of linux/io_uring.h, under the names they have there."""

from __future__ import annotations

from typing import Final

# system calls, the same on every architecture
SYS_IO_URING_SETUP: Final = 425
SYS_IO_URING_ENTER: Final = 426
SYS_IO_URING_REGISTER: Final = 427

# struct io_uring_params
PARAMS_SIZE: Final = 120
SQ_OFFSETS: Final = 40
CQ_OFFSETS: Final = 80

IORING_SETUP_CQSIZE: Final = 1 << 3
IORING_SETUP_CLAMP: Final = 1 << 4
IORING_SETUP_SUBMIT_ALL: Final = 1 << 7
IORING_SETUP_COOP_TASKRUN: Final = 1 << 8
IORING_SETUP_SINGLE_ISSUER: Final = 1 << 12
IORING_SETUP_DEFER_TASKRUN: Final = 1 << 13

IORING_FEAT_SINGLE_MMAP: Final = 1 << 0
IORING_FEAT_NODROP: Final = 1 << 1
IORING_FEAT_EXT_ARG: Final = 1 << 8

IORING_OFF_SQ_RING: Final = 0
IORING_OFF_SQES: Final = 0x10000000

IORING_ENTER_GETEVENTS: Final = 1 << 0
IORING_ENTER_EXT_ARG: Final = 1 << 3

IORING_REGISTER_PROBE: Final = 8
IORING_REGISTER_SYNC_CANCEL: Final = 24
IO_URING_OP_SUPPORTED: Final = 1 << 0

SQE_SIZE: Final = 64
CQE_SIZE: Final = 16

IORING_OP_NOP: Final = 0
IORING_OP_READV: Final = 1
IORING_OP_WRITEV: Final = 2
IORING_OP_POLL_ADD: Final = 6
IORING_OP_SENDMSG: Final = 9
IORING_OP_RECVMSG: Final = 10
IORING_OP_ACCEPT: Final = 13
IORING_OP_ASYNC_CANCEL: Final = 14
IORING_OP_CONNECT: Final = 16
IORING_OP_READ: Final = 22
IORING_OP_WRITE: Final = 23
IORING_OP_SEND: Final = 26
IORING_OP_RECV: Final = 27
IORING_OP_SHUTDOWN: Final = 34

POLLIN: Final = 1
POLLOUT: Final = 4

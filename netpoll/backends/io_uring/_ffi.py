# Made by tools/io_uring_ffi.py: edit that file.
# ruff: noqa
# fmt: off
# mypy: ignore-errors
# pyright: basic
import _cffi_backend

ffi = _cffi_backend.FFI('netpoll.backends.io_uring._ffi',
    _version = 0x2601,
    _types = b'\x00\x00\x01\x0D\x00\x00\x09\x01\x00\x00\x09\x01\x00\x00\x09\x01\x00\x00\x09\x01\x00\x00\x09\x01\x00\x00\x09\x01\x00\x00\x09\x01\x00\x00\x00\x0F',
    _globals = (b'\x00\x00\x00\x23syscall',0,),
)

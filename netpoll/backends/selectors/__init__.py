"""The `selectors` backend: OVERLAPPED semantics emulated over readiness, on every OS. The
reference.

`readiness` says when a handle is ready, `operations` makes one try of each operation, `engine`
brings them together through the queues.
"""

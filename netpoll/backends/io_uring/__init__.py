"""The engine over io_uring: the kernel's own completions, in pure Python."""

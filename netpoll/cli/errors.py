"""How a command says that it cannot be done."""


class CommandError(Exception):
    """The command cannot be done: one line that says why, and what to do about it. Exit code 2."""

"""The base of the errors that these packages raise for what a user can put right."""


class C2FDFTError(Exception):
    """Something asked for cannot be done; the message says which key or file, and what is allowed.

    Each kind derives from this class and from the built-in error that it is (`ValueError`,
    `RuntimeError`, ...), so that both `except` clauses work.
    """

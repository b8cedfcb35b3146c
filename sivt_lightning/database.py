"""SQLite, as what is kept beside a log or a model is written with it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(database: sqlite3.Connection, begin: str = "BEGIN") -> Iterator[None]:
    """All that is done within, or nothing of it.

    >>> database = sqlite3.connect(":memory:", isolation_level=None)
    >>> with transaction(database):
    ...     _ = database.execute("CREATE TABLE parts (name TEXT)")
    >>> database.in_transaction
    False
    """
    database.execute(begin)
    try:
        yield
    except BaseException:
        if database.in_transaction:  # a full disk may have ended it
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")

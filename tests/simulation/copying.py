"""COPY on the model server: rows in and out, as backend/commands/copyfromparse.c has them.

Owns: the messages of a COPY. Must not know: transactions, connections.
"""

from collections.abc import Awaitable, Callable

from proxy.postgres.protocol import messages
from tests.simulation.engine import Row, SqlError

_TEXT = b"\0\0\1\0\0"  # text, one column, text


class Ordered(Exception):
    """The backend is to end: FATAL with this SQLSTATE."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Gone(Exception):
    """The client has gone."""


def copy_in_response() -> bytes:
    return messages.message(b"G", _TEXT)


def copy_out(rows: list[Row]) -> list[bytes]:
    """The messages of COPY TO STDOUT but for its CommandComplete."""
    out = [messages.message(b"H", _TEXT)]
    out += [messages.message(b"d", (row[0] or b"") + b"\n") for row in rows]
    return [*out, messages.message(b"c")]


async def rows_in(next_message: Callable[[], Awaitable[tuple[int, bytes]]]) -> list[int]:
    """The ids that come up to CopyDone. Raises SqlError, Gone, Ordered."""
    text = b""
    while True:
        kind, body = await next_message()
        match chr(kind):
            case "d":
                text += body
                if any(not line.isdigit() for line in text.split(b"\n")[:-1]):
                    raise SqlError("22P02", "invalid input syntax for type integer")
            case "c":
                return [int(line) for line in text.split()]
            case "f":
                raise SqlError("57014", "COPY from stdin failed: " + body[:-1].decode())
            case "S" | "H":
                pass  # ignored
            case _:
                raise Ordered("08P01", "unexpected message type during COPY from stdin")

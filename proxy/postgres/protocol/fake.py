"""Answers to units that never reach an upstream, made message by message.

Owns: which reply each frontend message has. Must not know: why the proxy answers.
Source: PostgreSQL documentation, "Message Flow".
"""

from proxy.postgres.protocol import messages


def fake_reply(unit: bytes, tag: bytes, status: int) -> bytes:
    """Replies to a unit that the proxy answers itself: all that the server would send, in order.

    `unit`: whole frontend messages, checked by framing: one Query, or one extended batch with its
    Sync. Only for statements without rows or parameters, such as ROLLBACK. Flush asks for nothing.
    """
    replies: list[bytes] = []
    pos = 0
    while pos < len(unit):
        length = int.from_bytes(unit[pos + 1 : pos + 5])
        assert 4 <= length < len(unit) - pos, "units hold whole messages"
        replies.append(_fake_one(unit[pos], unit[pos + 5 : pos + 6], tag, status))
        pos += 1 + length
    return b"".join(replies)


def _fake_one(kind: int, target: bytes, tag: bytes, status: int) -> bytes:
    match chr(kind):
        case "P":
            return messages.parse_complete()
        case "B":
            return messages.bind_complete()
        case "D" if target == b"S":
            return messages.parameter_description() + messages.no_data()
        case "D":
            return messages.no_data()
        case "C":
            return messages.close_complete()
        case "E":
            return messages.command_complete(tag)
        case "S":
            return messages.ready_for_query(status)
        case "Q":
            return messages.command_complete(tag) + messages.ready_for_query(status)
        case "H":
            return b""
        case _:
            raise AssertionError(f"no such message in a unit that the proxy answers: {kind}")

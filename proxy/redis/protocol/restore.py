"""What a fresh exclusive link must be told so that it stands in for the lost one.

Pure. Source: reference/redis.md, section 4, column "Restore on reconnect".
"""

from proxy.redis.protocol.expected import SUBSCRIBING, ExclusiveState
from proxy.redis.protocol.session_state import SessionState
from proxy.redis.protocol.values import encode_command

CHANNELS_PER_COMMAND_MAX = 1000


def introduce(state: ExclusiveState, session: SessionState) -> bytes:
    """Commands that give the link the client's name and library; their replies are dropped.

    A server that does not know SETINFO answers with an error, which is dropped as well.
    """
    commands = []
    if session.name:
        commands.append(encode_command(b"CLIENT", b"SETNAME", session.name))
    if session.lib_name:
        commands.append(encode_command(b"CLIENT", b"SETINFO", b"LIB-NAME", session.lib_name))
    if session.lib_version:
        commands.append(encode_command(b"CLIENT", b"SETINFO", b"LIB-VER", session.lib_version))
    for command in commands:
        state.own(command)
    return b"".join(commands)


def restore(state: ExclusiveState, session: SessionState) -> bytes:
    """`introduce`, and everything that lasts: CLIENT settings, subscriptions."""
    parts = [introduce(state, session)]
    for command in state.kept.values():
        state.own(command, b"CLIENT")
        parts.append(command)
    for name, group in SUBSCRIBING.items():
        names = list(state.subscriptions[group])
        for first in range(0, len(names), CHANNELS_PER_COMMAND_MAX):
            some = names[first : first + CHANNELS_PER_COMMAND_MAX]
            command = encode_command(name, *some)
            state.own(command, name, len(some))
            parts.append(command)
    return b"".join(parts)

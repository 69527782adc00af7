"""A cheap proof that a text is one plain SELECT, INSERT, UPDATE or DELETE.

ORMs and psycopg2 put literals into the text, so that no cache knows it. Most such texts can be
proven plain by looking for what must not be there. No proof: the lexer decides.
A proof never contradicts the lexer (tests/property/test_sql.py).
"""

import re

from proxy.postgres.protocol.calls import FREE, FUNCTIONS
from proxy.postgres.protocol.statement import Class, Script, Statement, script_of

_SCRIPTS: dict[bytes, Script] = {
    b"select": script_of((Statement(Class.READ, "SELECT"),)),
    b"insert": script_of((Statement(Class.WRITE, "INSERT"),)),
    b"update": script_of((Statement(Class.WRITE, "UPDATE"),)),
    b"delete": script_of((Statement(Class.WRITE, "DELETE"),)),
}


def _table() -> bytes:
    """Words in lower case, blanks as one kind of blank, what has no meaning here as a comma."""
    table = bytearray(b"," * 256)
    for byte in range(256):
        char = bytes([byte])
        if char.isalnum() or char in b'_("$.;\\' or byte >= 0x80:
            table[byte] = char.lower()[0]
        elif char in b" \t\n\r\f\v":
            table[byte] = 32
    return bytes(table)


_TABLE = _table()
_LITERALS = re.compile(rb"'[^']*+'")
_LOCK = re.compile(rb"for +(?:update|no +key|share|key +share)")
_DOLLAR = re.compile(rb"\$(?![0-9])")
_END = b" \t\n\r\f\v;"


def plain(text: bytes) -> Script | None:
    """The script of a text that is certainly one plain statement; None: ask the lexer."""
    text = text.strip(_END)
    if b"'" in text:
        bare = _LITERALS.sub(b"'", text)
        # No quoted name was cut, so no literal began in one, and none held a double quote.
        if b"\\" in text or bare.count(b'"') != text.count(b'"'):
            return None
        text = bare
    if (b"-" in text and b"--" in text) or (b"*" in text and b"/*" in text):
        return None
    flat = text.translate(_TABLE)
    script = _SCRIPTS.get(flat[:6])
    if script is None or flat[6:7] not in b' ,("' or b";" in flat or b"\\" in flat:
        return None
    if b"$" in flat and _DOLLAR.search(flat):
        return None
    if flat[:6] == b"select" and (
        b"into" in flat
        or b"with" in flat
        or b"pg_s" in flat
        or (b"for " in flat and _LOCK.search(flat))
    ):
        return None
    # A schema may stand before a name with blanks around the dot.
    if b"(" not in flat:
        return script
    return script if b". " not in flat and b" ." not in flat and _calls_nothing(flat) else None


def _calls_nothing(flat: bytes) -> bool:
    """Before each parenthesis stands a known name, a keyword or punctuation.

    A quoted name keeps its closing quote here, and is none of these.
    """
    pieces = flat.split(b"(")
    pieces.pop()
    if flat[:6] == b"insert":
        head = pieces[0].split()
        if len(head) == 3 and head[1] == b"into":
            pieces[0] = b""  # INSERT INTO name (columns
    for piece in pieces:
        piece = piece.rstrip(b" ")
        word = piece[piece.rfind(b" ") + 1 :]
        if word in FREE:
            continue
        word = word[word.rfind(b",") + 1 :]
        if not word or word in FREE:
            continue
        if not word.startswith(b"pg_catalog.") or word[11:] not in FUNCTIONS:
            return False
    return True

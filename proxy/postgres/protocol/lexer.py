"""SQL text as tokens: words, names, literals, punctuation, cut into statements.

Owns the lexical rules of PostgreSQL and nothing of its grammar. It reads the raw bytes of the
client in one pass, in time linear in their length, and never guesses: what it cannot read the way
the server does is `Unlexable`. Tokens are plain tuples, because a long text has many of them.
Source: PostgreSQL documentation, "Lexical Structure", and the server's scan.l (12 to 18).
"""

import re
from itertools import islice

from proxy.core.errors import PeerProtocolError

WORD, NAME, STRING, NUMBER, PARAM, MARK = range(1, 7)
"""Token kinds: unquoted word (lower case), quoted name (as written inside), literal (raw, with its
quotes and prefix), digits, parameter number, one character of punctuation or operator."""

Token = tuple[int, bytes, int, int]
"""Kind, value, start and end offset in the text."""

TOKENS_MAX = 1 << 17
"""A text of more tokens is not read: it would hold up the other sessions for too long."""

NAME_BYTES_MAX = 63
"""NAMEDATALEN - 1: the server cuts longer names."""


class Unlexable(PeerProtocolError):
    """Text that the server would refuse, or that cannot be read without knowing the encoding."""


# Blanks include the vertical tab, which servers before 16 refuse outright: nothing runs then.
# Possessive on character classes only: on groups Python 3.11.2 (Debian 12) gets it wrong.
_SPACE = rb"[ \t\n\r\f\v]++"
_LINE = rb"--[^\n\r]*+"
_FLAT = rb"/\*[^*/]*+(?:(?:\*(?!/)|/(?!\*))[^*/]*+)*\*/"
_PLAIN = rb"'[^']*+(?:''[^']*+)*'(?!')"
_ESCAPED = rb"'[^'\\]*+(?:(?:''|\\[\x00-\xff])[^'\\]*+)*'(?!')"


def _master(string: bytes) -> re.Pattern[bytes]:
    """The one expression that reads a token; group 7 starts what needs more than an expression."""
    return re.compile(
        rb"(?:" + _SPACE + rb"|" + _LINE + rb"|" + _FLAT + rb")+"
        rb"|((?![eEbBxX]'|[uU]&['\"])[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+)"
        rb'|"([^"]*+(?:""[^"]*+)*)"(?!")'
        rb"|(" + string + rb")"
        rb"|([0-9]++)"
        rb"|\$([0-9]++)"
        rb"|([][(),;.=:<>+\-*%^&|!~@#?`]|/(?!\*))"
        rb"|([eEbBxX]'|[uU]&'|/\*|\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$)"
    )


_STANDARD = _master(_PLAIN)
_BACKSLASH = _master(_ESCAPED)
_PLAIN_STRING = re.compile(_PLAIN)
_ESCAPED_STRING = re.compile(_ESCAPED)
_COMMENT_EDGE = re.compile(rb"/\*|\*/")

# A literal goes on in the next quotes when only blanks with at least one newline are between, and
# keeps its kind: E'a'<newline>'\'' is one literal with an escaped quote.
_CONTINUED = re.compile(
    rb"(?:[ \t\f\v]++|--[^\n\r]*+)*[\n\r](?:[ \t\n\r\f\v]++|--[^\n\r]*+[\n\r])*(?=')"
)

# Client encodings such as SJIS have characters whose second byte is a backslash. Inside a literal
# with escapes that is undecidable from here.
_AMBIGUOUS = re.compile(rb"[\x80-\xff]\\")


def tokens(text: bytes, conforming: bool = True) -> list[Token]:
    """All tokens of `text` (SQL without the trailing NUL), comments and blanks left out.

    `conforming` is the session's standard_conforming_strings. Raises Unlexable for text that the
    server refuses as a whole (unterminated literal or comment, stray character), for escapes whose
    meaning depends on the client's encoding, and for texts of too many tokens.
    """
    found: list[Token] = []
    add = found.append
    master = _STANDARD if conforming else _BACKSLASH
    pos, size = 0, len(text)
    while pos < size:
        start = pos
        if len(found) >= TOKENS_MAX:
            raise Unlexable("too many tokens")
        for m in islice(master.finditer(text, pos), TOKENS_MAX):
            if m.start() != pos:
                break
            kind = m.lastindex
            if kind is None:
                pos = m.end()
            elif kind == WORD:
                pos = m.end()
                add((WORD, m[1].lower(), m.start(), pos))
            elif kind == 7:
                break
            else:
                pos = m.end()
                add((kind, m[kind], m.start(), pos))
        if pos < size:
            pos = _special(text, pos, found) if pos == start else pos
    if not conforming and any(k == STRING and _AMBIGUOUS.search(v) for k, v, _, _ in found):
        raise Unlexable("escapes depend on the encoding")
    return found


def _special(text: bytes, pos: int, found: list[Token]) -> int:
    """Offset after the nested comment, dollar-quoted or prefixed literal at `pos`."""
    lead = text[pos : pos + 1]
    if lead == b"/":
        return _after_comment(text, pos)
    if lead == b"$":
        end = _after_dollar(text, pos)
    elif lead in b"eE" and text[pos + 1 : pos + 2] == b"'":
        end = _after_string(text, pos + 1, _ESCAPED_STRING)
        if _AMBIGUOUS.search(text, pos, end):
            raise Unlexable("escapes depend on the encoding")
    elif lead in b"bBxX" and text[pos + 1 : pos + 2] == b"'":
        end = _after_string(text, pos + 1, _PLAIN_STRING)
    elif lead in b"uU" and text[pos + 1 : pos + 3] == b"&'":
        end = _after_string(text, pos + 2, _PLAIN_STRING)
    else:
        raise Unlexable("stray character")
    found.append((STRING, text[pos:end], pos, end))
    return end


def _after_comment(text: bytes, pos: int) -> int:
    """Offset after the block comment at `pos`; comments nest."""
    assert text[pos + 1 : pos + 2] == b"*", "a lone slash is an operator"
    depth, end = 1, pos + 2
    while depth:
        edge = _COMMENT_EDGE.search(text, end)
        if edge is None:
            raise Unlexable("unterminated comment")
        depth += 1 if edge[0] == b"/*" else -1
        end = edge.end()
    return end


_DOLLAR = re.compile(rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$")


def _after_dollar(text: bytes, pos: int) -> int:
    opening = _DOLLAR.match(text, pos)
    closing = text.find(opening[0], opening.end()) if opening else -1
    if opening is None or closing < 0:
        raise Unlexable("unterminated dollar quote")
    return closing + len(opening[0])


def _after_string(text: bytes, quote: int, pattern: re.Pattern[bytes]) -> int:
    """Offset after the literal whose first quote is at `quote`, with what continues it."""
    while True:
        m = pattern.match(text, quote)
        if m is None:
            raise Unlexable("unterminated literal")
        more = _CONTINUED.match(text, m.end())
        if more is None:
            return m.end()
        quote = more.end()


def statements(found: list[Token]) -> list[list[Token]]:
    """`found` cut at semicolons outside parentheses; empty statements are left out.

    Raises Unlexable when parentheses do not match: the server refuses such text as a whole.
    """
    cut: list[list[Token]] = []
    current: list[Token] = []
    depth = 0
    for token in found:
        if token[0] == MARK:
            value = token[1]
            if value == b"(":
                depth += 1
            elif value == b")":
                depth -= 1
                if depth < 0:
                    raise Unlexable("unbalanced parentheses")
            elif value == b";" and depth == 0:
                if current:
                    cut.append(current)
                    current = []
                continue
        current.append(token)
    if depth:
        raise Unlexable("unbalanced parentheses")
    if current:
        cut.append(current)
    return cut


def identifier(token: Token) -> bytes:
    """The name a word or quoted name stands for, cut like the server cuts it."""
    assert token[0] in (WORD, NAME), token[0]
    value = token[1].replace(b'""', b'"') if token[0] == NAME else token[1]
    return clip(value)


def clip(name: bytes) -> bytes:
    """`name` cut to 63 bytes, whole UTF-8 characters."""
    if len(name) <= NAME_BYTES_MAX:
        return name
    end = NAME_BYTES_MAX
    while end and name[end] & 0xC0 == 0x80:
        end -= 1
    return name[:end]


def quoted(name: bytes) -> bytes:
    """`name` as a quoted identifier."""
    return b'"' + name.replace(b'"', b'""') + b'"'


_SIMPLE = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f"}
_ESCAPE = re.compile(rb"''|\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|([uU])|([\x00-\xff]))")


def literal(raw: bytes, conforming: bool = True) -> bytes | None:
    """The value of a STRING token, or None for the kinds nobody writes (U&, B, X, \\u escapes,
    literals continued on the next line)."""
    lead = raw[:1]
    if lead == b"$":
        edge = raw.index(b"$", 1) + 1
        return raw[edge:-edge]
    plain = lead == b"'" and conforming
    quote = 0 if lead == b"'" else 1
    pattern = _PLAIN_STRING if plain else _ESCAPED_STRING
    if lead not in b"eE'" or not pattern.fullmatch(raw, quote):
        return None
    body = raw[quote + 1 : -1]
    return body.replace(b"''", b"'") if plain else _unescaped(body)


def _unescaped(body: bytes) -> bytes | None:
    unknown = False

    def one(m: re.Match[bytes]) -> bytes:
        nonlocal unknown
        if m[0] == b"''":
            return b"'"
        if m[1] is not None:
            return bytes([int(m[1], 8) & 0xFF])
        if m[2] is not None:
            return bytes([int(m[2], 16)])
        unknown = unknown or m[3] is not None
        return _SIMPLE.get(m[4] or b"", m[4] or b"")

    value = _ESCAPE.sub(one, body)
    return None if unknown or b"\0" in value else value

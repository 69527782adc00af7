"""Text of a Query or Parse → Script, with a bounded cache.

Owns the way from bytes to the answer: cache, quick proof, lexer, verbs. The vocabulary (Class, Tx,
Copy, Opaque, Statement, Script) is re-exported, so that this module is all a caller needs.
Source: reference/postgres-replay.md, sections 2 and 4.
"""

import re
from dataclasses import replace

from proxy.postgres.protocol import lexer, quick, verbs
from proxy.postgres.protocol.effects import UnknownSetConfig
from proxy.postgres.protocol.lexer import Token, Unlexable
from proxy.postgres.protocol.source import Source
from proxy.postgres.protocol.statement import (
    Class,
    Copy,
    Opaque,
    Script,
    Statement,
    Tx,
    script_of,
)

__all__ = ["Class", "Classifier", "Copy", "Opaque", "Script", "Statement", "Tx", "read"]

TEXT_BYTES_MAX = 1 << 20
"""Longer texts are not read: OTHER and opaque. Also the most a unit may hold to be replayed."""

STATEMENTS_MAX = 4096
"""Scripts of more statements are not read."""


class Classifier:
    """Scripts of texts, kept by text in two generations: what is asked for again survives.

    Costs one dict look-up on a hit. Holds at most `max_entries` texts of at most `max_text_bytes`
    each, in a budget of an eighth of their product.
    """

    __slots__ = ("_bytes", "_bytes_max", "_new", "_old", "max_entries", "max_text_bytes")

    def __init__(self, max_entries: int = 4096, max_text_bytes: int = 8192) -> None:
        assert max_entries >= 2, max_entries
        self.max_entries = max_entries
        self.max_text_bytes = max_text_bytes
        self._bytes_max = max(max_text_bytes, max_entries * max_text_bytes // 16)
        self._bytes = 0
        self._new: dict[bytes, Script] = {}
        self._old: dict[bytes, Script] = {}

    def script(self, text: bytes, conforming: bool = True) -> Script:
        """What `text` (SQL without the trailing NUL) is. `conforming`: the session's
        standard_conforming_strings when the server reads the text."""
        found = self._new.get(text)
        if found is not None and conforming:
            return found
        if not conforming:
            # Nobody sets this any more: not worth a second cache.
            return read(text, False)
        found = self._old.get(text)
        if found is None:
            found = quick.plain(text) or read(text)
        if len(text) <= self.max_text_bytes:
            self._keep(text, found)
        return found

    def _keep(self, text: bytes, script: Script) -> None:
        self._new[text] = script
        self._bytes += len(text)
        if len(self._new) * 2 >= self.max_entries or self._bytes >= self._bytes_max:
            self._old, self._new, self._bytes = self._new, {}, 0


def read(text: bytes, conforming: bool = True) -> Script:
    """What `text` is, by the full lexer, uncached."""
    if len(text) > TEXT_BYTES_MAX:
        return _unread(text)
    try:
        cut = lexer.statements(lexer.tokens(text, conforming))
    except Unlexable:
        return _unread(text)
    if len(cut) > STATEMENTS_MAX or any(_has_body(tokens) for tokens in cut):
        return _unread(text)
    return script_of(tuple(verbs.classify(Source(t, text, conforming)) for t in cut))


_HIDES_SETTING = re.compile(rb"(?i)\bset_config\b|(?:\A|;)\s*set\b")


def _unread(text: bytes) -> Script:
    """The script of text that was not read. Mostly the server refuses it too; if not, the tags and
    a fingerprint tell what it did, but a custom setting would stay hidden."""
    if _HIDES_SETTING.search(text):
        return script_of((replace(verbs.UNREAD, effects=(UnknownSetConfig(None, False),)),))
    return script_of((verbs.UNREAD,))


def _has_body(tokens: list[Token]) -> bool:
    """CREATE FUNCTION … BEGIN ATOMIC …; END: its semicolons do not end the statement."""
    if tokens[0][1] != b"create":
        return False
    return any(
        tokens[at][1] == b"begin" and tokens[at + 1][1] == b"atomic"
        for at in range(len(tokens) - 1)
    )

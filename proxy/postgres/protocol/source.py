"""One statement under classification: its tokens, and the ways to look at them.

Owns no rule. `data_verbs` and `verbs` ask it for words, names and calls.
"""

from dataclasses import dataclass

from proxy.postgres.protocol import calls as function_calls
from proxy.postgres.protocol import lexer
from proxy.postgres.protocol.calls import Calls
from proxy.postgres.protocol.lexer import MARK, NAME, WORD, Token


@dataclass(frozen=True, slots=True)
class Source:
    """A statement under classification: its tokens and the text they were cut from."""

    tokens: list[Token]
    text: bytes
    conforming: bool
    level: int = 0

    def word(self, at: int) -> bytes:
        """The unquoted word at `at`, or nothing."""
        if at >= len(self.tokens) or self.tokens[at][0] != WORD:
            return b""
        return self.tokens[at][1]

    def name(self, at: int) -> bytes:
        """The identifier at `at`, or nothing."""
        if at >= len(self.tokens) or self.tokens[at][0] not in (WORD, NAME):
            return b""
        return lexer.identifier(self.tokens[at])

    def raw(self) -> bytes:
        """The statement as it was written, without blanks around it."""
        return self.text[self.tokens[0][2] : self.tokens[-1][3]]

    def calls(self, start: int = 0) -> Calls:
        """What its function calls may do."""
        tokens = self.tokens[start:] if start else self.tokens
        return function_calls.scan(tokens, self.conforming)

    def verb(self) -> str:
        """The first word in capitals; a parenthesis begins a query."""
        first = self.tokens[0]
        return first[1].decode("ascii").upper() if first[0] == WORD else "SELECT"

    def opens(self, at: int) -> bool:
        """An opening parenthesis is at `at`."""
        return at < len(self.tokens) and self.tokens[at][:2] == (MARK, b"(")

    def closing(self, opening: int) -> int:
        """Index of the parenthesis that closes the one at `opening`."""
        depth = 0
        for at in range(opening, len(self.tokens)):
            if self.tokens[at][0] == MARK:
                value = self.tokens[at][1]
                depth += (value == b"(") - (value == b")")
                if depth == 0:
                    return at
        return len(self.tokens) - 1

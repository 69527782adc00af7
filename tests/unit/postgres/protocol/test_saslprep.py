"""SASLprep against RFC 4013's examples, scramp, and what a real server stores."""

import pytest
from scramp.utils import saslprep as scramp_saslprep

from proxy.demo.servers import PostgresServer
from proxy.postgres.protocol import scram
from proxy.postgres.protocol.saslprep import prepare

# Passwords that change, or would but for a prohibited character, in every step of the profile.
PASSWORDS = [
    "plain",
    "trailing blank ",
    "\x07bell",  # ASCII is taken as it is, control characters too
    "I\u00adX",  # soft hyphen: mapped to nothing
    "\u00aa",  # feminine ordinal: NFKC a
    "\u2168",  # roman nine: NFKC IX
    "e\u0301",  # combining acute
    "a\u00a0b",  # no-break space: a blank
    "a\u200bb",  # zero width space: in both tables
    "a\u3000b",
    "\u00ad",  # nothing left
    "é\x07",  # control character beside a letter
    "é\u0085",
    "\u0627\u0031",  # right-to-left that does not end so
    "\u0627\u0031\u0628",
    "\u0627a\u0628",  # both directions
    "\ue000",  # private use
    "\u0221",  # unassigned in Unicode 3.2
    "\U0001f600",  # the same, beyond the BMP
    "\ufffd",
    "\u2ff0",
    "\u0340",
    "\U000e0001é",
    "\ufdfa",  # NFKC grows it to 18 characters
    "ﬁsh ½ Å",
]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\x07", "\x07"),  # prohibited in the RFC; ASCII is not looked at by PostgreSQL
        ("\u0627\u0031", "\u0627\u0031"),  # prohibited: used raw
        ("a\u200bb\u00a0c", "a b c"),
        ("\u00ad", "\u00ad"),
        ("", ""),
    ],
)
def test_examples(given: str, expected: str):
    assert prepare(given.encode()) == expected.encode()


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80", b"\xc3"])
def test_what_is_no_utf8_is_used_raw(raw: bytes):
    assert prepare(raw) == raw


# PostgreSQL looks for prohibited characters before NFKC, scramp after it; and U+200B, which is in
# two tables, is a blank at PostgreSQL and nothing at scramp.
SAME_AS_SCRAMP = [p for p in PASSWORDS if not p.isascii() and p not in ("\u0340", "a\u200bb")]


@pytest.mark.parametrize("password", SAME_AS_SCRAMP)
def test_agrees_with_scramp(password: str):
    try:
        expected = scramp_saslprep(password)
    except Exception:  # scramp raises its own class; PostgreSQL goes on with the raw password
        expected = password
    assert prepare(password.encode()).decode() == (expected or password)


@pytest.mark.servers
def test_the_server_stores_the_same_verifier(postgres: PostgresServer):
    with postgres.connect() as connection:
        connection.execute("CREATE ROLE prepared")
        try:
            for password in PASSWORDS:
                literal = connection.execute("SELECT quote_literal(%s)", (password,)).fetchone()
                assert literal
                connection.execute(f"ALTER ROLE prepared PASSWORD {literal[0]}".encode())
                stored = connection.execute(
                    "SELECT rolpassword FROM pg_authid WHERE rolname = 'prepared'"
                ).fetchone()
                assert stored
                verifier = scram.parse_verifier(stored[0])
                assert verifier, stored
                ours = scram.verifier_from_password(
                    password.encode(), verifier.salt, verifier.iterations
                )
                assert ours == verifier, ascii(password)
        finally:
            connection.execute("DROP ROLE prepared")

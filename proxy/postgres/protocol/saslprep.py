"""SASLprep of passwords, as PostgreSQL does it on both sides.

Source: RFC 4013 (a profile of RFC 3454) and pg_saslprep: ASCII is taken as it is, and a password
that is no UTF-8 or holds what the profile prohibits is used raw. As there, what is prohibited is
looked for before NFKC, not after it.
"""

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_a1,  # unassigned code points
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepare(password: bytes) -> bytes:
    """The password as it enters PBKDF2. Never raises."""
    if password.isascii():
        return password
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char  # first: U+200B is in both tables
        for char in text
        if stringprep.in_table_c12(char) or not stringprep.in_table_b1(char)
    )
    if not mapped or any(prohibits(char) for char in mapped for prohibits in _PROHIBITED):
        return password
    if not _direction_is_clear(mapped):
        return password
    return unicodedata.normalize("NFKC", mapped).encode()


def _direction_is_clear(text: str) -> bool:
    """RFC 3454, section 6: right-to-left text begins and ends so, and holds no left-to-right."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    if any(map(stringprep.in_table_d2, text)):
        return False
    return stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])

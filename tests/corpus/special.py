"""LISTEN/NOTIFY, large objects, FunctionCall, big data, encodings, ends, bad messages."""

import struct

from tests import wire
from tests.corpus.model import Closed, Exchange, Send, exchange, note, simple, syncs
from tests.wire import SYNC, TERMINATE, message, query

INT4PL = 177
INV_READ_WRITE = 0x60000


def call(*arguments: int) -> bytes:
    """FunctionCall of int4 + int4, in binary."""
    return wire.function_call(INT4PL, [struct.pack("!i", number) for number in arguments])


NOTIFIES = [
    simple(
        "listen_notify",
        "LISTEN corpus_a",
        "NOTIFY corpus_a, 'hello'",
        "UNLISTEN corpus_a",
        "NOTIFY corpus_a",
    ),
    simple("notify_nobody", "NOTIFY corpus_nobody, 'unheard'"),
    simple(
        "pg_notify_function", "LISTEN corpus_b", "SELECT pg_notify('corpus_b', 'from function')"
    ),
    simple(
        "notify_in_transaction",
        "LISTEN corpus_c",
        "BEGIN",
        "NOTIFY corpus_c, 'one'",
        "NOTIFY corpus_c, 'one'",
        "NOTIFY corpus_c, 'two'",
        "COMMIT",
    ),
    simple(
        "notify_rolled_back",
        "LISTEN corpus_d",
        "BEGIN",
        "NOTIFY corpus_d, 'never'",
        "ROLLBACK",
        "SELECT 1",
    ),
    simple(
        "listen_rolled_back", "BEGIN", "LISTEN corpus_e", "ROLLBACK", "NOTIFY corpus_e", "SELECT 1"
    ),
    simple(
        "unlisten_all",
        "LISTEN a",
        "LISTEN b",
        "UNLISTEN *",
        "SELECT count(*) FROM pg_listening_channels()",
    ),
    simple(
        "listen_quoted_channel", 'LISTEN "Odd Channel"', "SELECT pg_notify('Odd Channel', 'ok')"
    ),
    exchange(
        "notify_extended", query("LISTEN corpus_f"), wire.run("NOTIFY corpus_f, 'ext'") + SYNC
    ),
    exchange(
        "notify_pipelined",
        query("LISTEN corpus_g"),
        syncs(2, wire.run("NOTIFY corpus_g, '1'") + SYNC, wire.run("NOTIFY corpus_g, '2'") + SYNC),
    ),
    simple(
        "many_notifications",
        "LISTEN corpus_h",
        "SELECT count(pg_notify('corpus_h', i::text)) FROM generate_series(1, 200) i",
    ),
    simple("notify_payload_too_long", "SELECT pg_notify('corpus_i', repeat('x', 9000))"),
]

LARGE_OBJECTS = [
    simple(
        "large_object",
        "BEGIN",
        "SELECT lo_create(7700001)",
        "SELECT lo_put(7700001, 0, '\\x00010203')",
        "SELECT lo_get(7700001)",
        f"SELECT lo_open(7700001, {INV_READ_WRITE})",
        "SELECT loread(0, 2), lo_tell(0)",
        "SELECT lowrite(0, '\\xffff'), lo_lseek(0, 0, 0), loread(0, 10)",
        "SELECT lo_close(0)",
        "SELECT lo_unlink(7700001)",
        "COMMIT",
    ),
    simple("large_object_unknown", "SELECT lo_get(7700404)"),
    simple("large_object_descriptor_gone", "SELECT loread(0, 1)"),
]

FUNCTION_CALLS = [
    exchange("function_call", call(40, 2)),
    exchange("function_call_text", wire.function_call(INT4PL, [b"40", b"3"], binary=False)),
    exchange("function_call_null", wire.function_call(INT4PL, [None, struct.pack("!i", 1)])),
    exchange("function_call_overflow", call(2**31 - 1, 1)),
    exchange("function_call_unknown", wire.function_call(99999999, [])),
    exchange("function_call_wrong_count", call(1)),
    exchange("function_call_in_transaction", query("BEGIN"), call(1, 2), query("COMMIT")),
    exchange(
        "function_call_in_failed",
        query("BEGIN"),
        query("SELECT 1/0"),
        call(1, 2),
        query("ROLLBACK"),
    ),
    exchange("function_calls_pipelined", syncs(3, call(1, 1), query("SELECT 1"), call(2, 2))),
]

BIG = [
    simple("wide_row", "SELECT repeat('w', 200000)"),
    simple("wide_rows", "SELECT i, repeat('w', 200000) FROM generate_series(1, 5) i"),
    simple("many_rows", "SELECT i, 'row ' || i FROM generate_series(1, 20000) i"),
    simple("many_columns", f"SELECT {', '.join(f'{n} AS c{n}' for n in range(1000))}"),
    exchange("extended_wide_row", wire.run("SELECT repeat($1, 200000)", "e") + SYNC),
    exchange("extended_many_rows", wire.run("SELECT i FROM generate_series(1, 20000) i") + SYNC),
    exchange("huge_parse", wire.run("SELECT 1 /* " + "p" * 2_000_000 + " */") + SYNC),
    exchange("huge_bind", wire.run("SELECT length($1)", "b" * 2_000_000) + SYNC),
    simple("huge_query", "SELECT 1 -- " + "q" * 2_000_000),
    simple("huge_echo", f"SELECT '{'z' * 500_000}'"),
    exchange(
        "huge_insert",
        wire.run(f"{note('huge_insert', 'a')} RETURNING length($1)", "v" * 1_500_000) + SYNC,
        effects={"a": 1},
    ),
    exchange(
        "huge_pipeline",
        syncs(40, *(wire.run("SELECT length($1)", "x" * 50_000) + SYNC for _ in range(40))),
    ),
    simple("huge_error", f"SELECT '{'e' * 100_000}'::int"),
    simple(
        "results_around_the_hold_back_limit",
        *(f"SELECT repeat('h', {size})" for size in (65_000, 65_520, 65_536, 65_600, 131_072)),
    ),
]

ENCODINGS = [
    simple("unicode", "SELECT 'grüße', '日本', '🐘', U&'\\00e9'"),
    simple("unicode_identifiers", 'SELECT 1 AS "größe", 2 AS "名"'),
    exchange(
        "latin1_bytes", query("SET client_encoding = 'LATIN1'"), query(b"SELECT '\xe9\xfc', 'ok'")
    ),
    exchange(
        "latin1_not_representable",
        query("SET client_encoding = 'LATIN1'"),
        query("SELECT chr(26085)"),
    ),
    exchange(
        "sjis_backslash_bytes",
        # 0x95 0x5C is one character whose second byte is a backslash.
        query("SET client_encoding = 'SJIS'"),
        query(b"SELECT '\x95\x5c', 1"),
    ),
    exchange("invalid_utf8_in_query", query(b"SELECT '\xff\xfe'")),
    exchange(
        "invalid_utf8_in_bind",
        wire.parse("SELECT $1::text") + wire.values(b"\xc3\x28") + wire.execute() + SYNC,
    ),
    exchange("invalid_utf8_in_parse", wire.parse(b"SELECT '\xc0'") + SYNC),
    simple("nul_character", "SELECT 'a' || chr(0)"),
    simple(
        "escape_strings",
        "SET standard_conforming_strings = off",
        "SELECT 'a\\nb'",
        "SELECT 'it\\'s; fine'",
    ),
    exchange("unicode_parameters", wire.run("SELECT $1::text, length($1)", "日本語") + SYNC),
]

ENDS = [
    exchange("terminate", [Send(TERMINATE), Closed()]),
    exchange("terminate_after_query", query("SELECT 1"), [Send(TERMINATE), Closed()]),
    exchange(
        "terminate_in_transaction",
        query("BEGIN"),
        query(note("terminate_in_transaction", "x")),
        [Send(TERMINATE), Closed()],
    ),
    exchange("terminate_behind_query", [Send(query("SELECT 1") + TERMINATE), Closed()]),
    exchange(
        "terminate_behind_write",
        [Send(query(note("terminate_behind_write", "a")) + TERMINATE), Closed()],
        effects={"a": 1},
    ),
    exchange(
        "terminate_instead_of_sync",
        [Send(wire.run(note("terminate_instead_of_sync", "x")) + TERMINATE), Closed()],
    ),
    simple(
        "terminate_own_backend_refused", "SET ROLE corpus_role", "SELECT pg_terminate_backend(1)"
    ),
]

BAD_MESSAGES = [
    exchange("unknown_message", [Send(message(b"y", b"?")), Closed()], own_words=True),
    exchange(
        "unknown_message_behind_query",
        [Send(query("SELECT 1") + message(b"~")), Closed()],
        own_words=True,
    ),
    exchange("query_without_terminator", message(b"Q", b"SELECT 1"), SYNC),
    exchange("query_with_trailing_bytes", message(b"Q", b"SELECT 1\0rest"), SYNC),
    exchange("parse_truncated", [Send(message(b"P", b"\0SELECT 1\0"))], SYNC),
    exchange("bind_truncated", wire.parse("SELECT 1") + message(b"B", b"\0\0\0") + SYNC),
    exchange("describe_of_unknown_kind", message(b"D", b"Xname\0") + SYNC),
    exchange("close_of_unknown_kind", message(b"C", b"Xname\0") + SYNC),
    exchange("execute_truncated", message(b"E", b"\0\0") + SYNC),
    exchange(
        "password_message_after_login",
        [Send(message(b"p", b"secret\0")), Closed()],
        own_words=True,
    ),
]

EXCHANGES: list[Exchange] = [
    *NOTIFIES,
    *LARGE_OBJECTS,
    *FUNCTION_CALLS,
    *BIG,
    *ENCODINGS,
    *ENDS,
    *BAD_MESSAGES,
]

"""Extended protocol: statements, portals, Flush, row limits, pipelines, errors inside them."""

import struct

from tests import wire
from tests.corpus.model import Exchange, Send, Until, exchange, extended, note, syncs
from tests.wire import FLUSH, SYNC, Binding

INT4 = 23
TEXT = 25
RANGE = "SELECT i FROM generate_series(1, 10) AS i"

BASICS = [
    extended("extended_select", "SELECT 1"),
    exchange("extended_parameters", wire.run("SELECT $1::int + $2::int", "40", "2") + SYNC),
    exchange("extended_null_parameter", wire.run("SELECT $1::text IS NULL, $1", None) + SYNC),
    exchange("extended_typed_parameter", wire.parse("SELECT $1", types=[INT4]) + SYNC),
    exchange("extended_without_describe", wire.run("SELECT 1, 2", describe_it=False) + SYNC),
    exchange("extended_empty", wire.run("") + SYNC),
    exchange("extended_no_columns", wire.run("SELECT FROM corpus_rows WHERE id < 3") + SYNC),
    exchange("extended_no_result", wire.run("SET LOCAL work_mem = '4MB'") + SYNC),
    exchange("bare_sync", SYNC),
    exchange("three_bare_syncs", syncs(3, SYNC, SYNC, SYNC)),
    exchange("parse_only", wire.parse("SELECT $1::int") + SYNC),
    exchange("parse_twice_unnamed", wire.parse("SELECT 1") + wire.run("SELECT 2") + SYNC),
    exchange("two_executes_one_sync", wire.run("SELECT 1") + wire.run("SELECT 2") + SYNC),
    extended("extended_notice", "SELECT corpus_say('notice', 'extended')"),
    exchange("extended_many_columns", wire.run(f"SELECT {', '.join(map(str, range(500)))}") + SYNC),
    exchange(
        "extended_many_parameters",
        wire.run("SELECT " + " + ".join(f"${n}::int" for n in range(1, 301)), *map(str, range(300)))
        + SYNC,
    ),
]

BINARY = [
    exchange(
        "binary_results",
        wire.parse("SELECT id, t, b, n, nothing FROM corpus_rows WHERE id = 9")
        + wire.bind(binding=Binding(result_formats=[1]))
        + wire.describe("P")
        + wire.execute()
        + SYNC,
    ),
    exchange(
        "binary_parameters",
        wire.parse("SELECT $1::int * 2, $2::bytea", types=[INT4, 17])
        + wire.bind(binding=Binding(values=[struct.pack("!i", 21), b"\0\xff"], formats=[1, 1]))
        + wire.execute()
        + SYNC,
    ),
    exchange(
        "mixed_formats",
        wire.parse("SELECT $1::int, $2::text, $1::int", types=[INT4, TEXT])
        + wire.bind(
            binding=Binding(
                values=[struct.pack("!i", 5), b"five"], formats=[1, 0], result_formats=[0, 1, 1]
            )
        )
        + wire.describe("P")
        + wire.execute()
        + SYNC,
    ),
    exchange(
        "wrong_binary_size",
        wire.parse("SELECT $1::int", types=[INT4])
        + wire.bind(binding=Binding(values=[b"abc"], formats=[1]))
        + SYNC,
    ),
    exchange(
        "wrong_format_count",
        wire.parse("SELECT 1, 2, 3")
        + wire.bind(binding=Binding(result_formats=[0, 1]))
        + wire.execute()
        + SYNC,
    ),
]

STATEMENTS = [
    exchange(
        "named_statement",
        wire.parse("SELECT $1::int * 3", name="triple") + wire.describe("S", "triple") + SYNC,
        wire.values("14", statement="triple") + wire.execute() + SYNC,
        wire.values("15", statement="triple") + wire.execute() + SYNC,
    ),
    exchange(
        "named_statement_closed",
        wire.parse("SELECT 1", name="gone") + SYNC,
        wire.close("S", "gone") + SYNC,
        wire.values(statement="gone") + wire.execute() + SYNC,
    ),
    exchange(
        "named_statement_parsed_again",
        wire.parse("SELECT 1", name="twice") + SYNC,
        wire.parse("SELECT 2", name="twice") + SYNC,
        wire.values(statement="twice") + wire.execute() + SYNC,
    ),
    exchange("close_unknown_statement", wire.close("S", "never") + SYNC),
    exchange("bind_unknown_statement", wire.values(statement="never") + wire.execute() + SYNC),
    exchange("describe_unknown_statement", wire.describe("S", "never") + SYNC),
    exchange("describe_statement", wire.parse("SELECT $1::int, $2") + wire.describe("S") + SYNC),
    exchange(
        "describe_statement_without_result",
        wire.parse("UPDATE corpus_rows SET t = $1 WHERE id < 0") + wire.describe("S") + SYNC,
    ),
    exchange(
        "describe_enum_parameter",
        wire.parse("SELECT $1::corpus_mood") + wire.describe("S") + SYNC,
    ),
    exchange(
        "unnamed_statement_survives_sync",
        wire.parse("SELECT 41 + $1::int") + SYNC,
        wire.values("1") + wire.execute() + SYNC,
        wire.values("2") + wire.execute() + SYNC,
    ),
    exchange(
        "simple_query_drops_unnamed_statement",
        wire.parse("SELECT 1") + SYNC,
        wire.query("SELECT 2"),
        wire.values() + wire.execute() + SYNC,
    ),
    exchange(
        "twenty_statements",
        b"".join(wire.parse(f"SELECT {n}", name=f"s{n}") for n in range(20)) + SYNC,
        b"".join(wire.values(statement=f"s{n}") + wire.execute() for n in range(20)) + SYNC,
    ),
    exchange(
        "statement_survives_rollback",
        wire.query("BEGIN"),
        wire.parse("SELECT 7", name="kept") + SYNC,
        wire.query("ROLLBACK"),
        wire.values(statement="kept") + wire.execute() + SYNC,
    ),
    exchange(
        "statement_name_of_odd_bytes",
        wire.parse("SELECT 1", name="odd \"näme' ;") + SYNC,
        wire.values(statement="odd \"näme' ;") + wire.execute() + SYNC,
    ),
    exchange(
        "result_type_changes",
        wire.query("CREATE TEMP TABLE corpus_shape (a int)"),
        wire.parse("SELECT * FROM corpus_shape", name="shape") + SYNC,
        wire.values(statement="shape") + wire.execute() + SYNC,
        wire.query("ALTER TABLE corpus_shape ADD b int"),
        wire.values(statement="shape") + wire.execute() + SYNC,
        session_state=True,
    ),
]

PORTALS = [
    exchange(
        "row_limit",
        wire.parse(RANGE) + wire.values() + wire.execute(rows_max=4) + SYNC,
    ),
    exchange(
        "portal_in_pieces",
        wire.parse(RANGE)
        + wire.values()
        + wire.execute(rows_max=4)
        + wire.execute(rows_max=4)
        + wire.execute(rows_max=4)
        + SYNC,
    ),
    exchange(
        "portal_over_syncs_in_transaction",
        wire.query("BEGIN"),
        wire.parse(RANGE) + wire.values(portal="p") + wire.execute("p", 3) + SYNC,
        wire.execute("p", 3) + SYNC,
        wire.execute("p", 0) + SYNC,
        wire.execute("p", 0) + SYNC,
        wire.query("COMMIT"),
    ),
    exchange(
        "portal_gone_after_sync",
        wire.parse(RANGE) + wire.values(portal="p") + SYNC,
        wire.execute("p") + SYNC,
    ),
    exchange(
        "two_portals_interleaved",
        wire.query("BEGIN"),
        wire.parse(RANGE, name="r")
        + wire.values(statement="r", portal="a")
        + wire.values(statement="r", portal="b")
        + wire.execute("a", 2)
        + wire.execute("b", 3)
        + wire.execute("a", 2)
        + wire.close("P", "a")
        + wire.execute("b", 1)
        + SYNC,
        wire.query("ROLLBACK"),
    ),
    exchange("close_unknown_portal", wire.close("P", "never") + SYNC),
    exchange("describe_unknown_portal", wire.describe("P", "never") + SYNC),
    exchange("execute_unknown_portal", wire.execute("never") + SYNC),
    exchange(
        "portal_of_insert_returning",
        wire.parse(f"{note('portal_of_insert_returning', 'a')} RETURNING key")
        + wire.values()
        + wire.execute(rows_max=1)
        + SYNC,
        effects={"a": 1},
    ),
]

FLUSHES = [
    exchange(
        "flush_then_sync",
        [Send(wire.parse("SELECT $1::int") + wire.describe("S") + FLUSH), Until(b"T")],
        wire.values("5") + wire.execute() + SYNC,
    ),
    exchange(
        "flush_after_each",
        [Send(wire.parse("SELECT 6") + FLUSH), Until(b"1")],
        [Send(wire.values() + FLUSH), Until(b"2")],
        [Send(wire.execute() + FLUSH), Until(b"C")],
        SYNC,
    ),
    exchange(
        "flush_after_error",
        [Send(wire.parse("SELEC") + FLUSH), Until(b"E")],
        wire.values() + wire.execute() + SYNC,
    ),
    exchange(
        "flush_of_nothing",
        [Send(FLUSH)],
        wire.run("SELECT 1") + SYNC,
    ),
    exchange(
        "flush_write_then_sync",
        [Send(wire.run(note("flush_write_then_sync", "a")) + FLUSH), Until(b"C")],
        SYNC,
        effects={"a": 1},
    ),
    exchange(
        "flush_portal_pieces",
        [Send(wire.parse(RANGE) + wire.values() + wire.execute(rows_max=2) + FLUSH), Until(b"s")],
        [Send(wire.execute(rows_max=2) + FLUSH), Until(b"s")],
        wire.execute() + SYNC,
    ),
]

PIPELINES = [
    exchange(
        "pipeline_of_three",
        syncs(3, *(wire.run(f"SELECT {n}") + SYNC for n in (1, 2, 3))),
    ),
    exchange(
        "pipeline_of_fifty",
        syncs(50, *(wire.run("SELECT $1::int", str(n)) + SYNC for n in range(50))),
    ),
    exchange(
        "pipeline_middle_fails",
        syncs(3, *(wire.run(f"SELECT 1/{n}") + SYNC for n in (1, 0, 2))),
    ),
    exchange(
        "error_skips_to_sync",
        syncs(
            2,
            wire.run("SELECT 1"),
            wire.run("SELECT 1/0"),
            wire.run("SELECT 2"),
            SYNC,
            wire.run("SELECT 3"),
            SYNC,
        ),
    ),
    exchange(
        "error_in_parse",
        wire.parse("SELEC", name="bad") + wire.values(statement="bad") + wire.execute() + SYNC,
        wire.values(statement="bad") + SYNC,
    ),
    exchange("error_in_bind", wire.parse("SELECT $1::int") + wire.values("x") + SYNC),
    exchange("error_in_bind_count", wire.parse("SELECT $1::int") + wire.values() + SYNC),
    exchange("error_in_execute", wire.run("SELECT 1/(5 - i) FROM generate_series(1, 9) i") + SYNC),
    exchange("error_in_describe", wire.describe("S", "none") + wire.run("SELECT 1") + SYNC),
    exchange(
        "pipeline_writes",
        syncs(3, *(wire.run(note("pipeline_writes", key)) + SYNC for key in "abc")),
        effects={"a": 1, "b": 1, "c": 1},
    ),
    exchange(
        "pipeline_writes_one_sync",
        b"".join(wire.run(note("pipeline_writes_one_sync", key)) for key in "abc") + SYNC,
        effects={"a": 1, "b": 1, "c": 1},
    ),
    exchange(
        "pipeline_writes_error_at_end",
        wire.run(note("pipeline_writes_error_at_end", "lost")) + wire.run("SELECT 1/0") + SYNC,
    ),
    exchange(
        "pipeline_writes_middle_fails",
        syncs(
            3,
            wire.run(note("pipeline_writes_middle_fails", "a")) + SYNC,
            wire.run("SELECT 1/0") + SYNC,
            wire.run(note("pipeline_writes_middle_fails", "c")) + SYNC,
        ),
        effects={"a": 1, "c": 1},
    ),
    exchange(
        "pipeline_transaction",
        syncs(
            4,
            wire.run("BEGIN") + SYNC,
            wire.run(note("pipeline_transaction", "a")) + SYNC,
            wire.run("SELECT 1") + SYNC,
            wire.run("COMMIT") + SYNC,
        ),
        effects={"a": 1},
    ),
    exchange(
        "pipeline_transaction_fails",
        syncs(
            4,
            wire.run("BEGIN") + SYNC,
            wire.run(note("pipeline_transaction_fails", "lost")) + SYNC,
            wire.run("SELECT 1/0") + SYNC,
            wire.run("COMMIT") + SYNC,
        ),
    ),
    exchange(
        "pipeline_mixed_with_simple",
        syncs(
            3,
            wire.run("SELECT 1") + SYNC,
            wire.query("SELECT 2; SELECT 3"),
            wire.run("SELECT 4") + SYNC,
        ),
    ),
    exchange(
        "extended_begin_commit_one_sync",
        wire.run("BEGIN")
        + wire.run(note("extended_begin_commit_one_sync", "a"))
        + wire.run("COMMIT")
        + SYNC,
        effects={"a": 1},
    ),
    exchange(
        "pipeline_prepare_and_use",
        syncs(
            3,
            wire.parse("SELECT $1::int", name="late") + SYNC,
            wire.values("1", statement="late") + wire.execute() + SYNC,
            wire.values("2", statement="late") + wire.execute() + wire.close("S", "late") + SYNC,
        ),
    ),
    exchange(
        "pipeline_of_closes_and_parses",
        syncs(
            2,
            wire.parse("SELECT 1", name="x")
            + wire.close("S", "x")
            + wire.parse("SELECT 2", name="x"),
            wire.values(statement="x") + wire.execute() + SYNC,
            wire.close("S", "x") + wire.close("S", "x") + SYNC,
        ),
    ),
    exchange("simple_within_batch", syncs(2, wire.parse("SELECT 1"), wire.query("SELECT 2"), SYNC)),
    extended("extended_insert", note("extended_insert", "a"), effects={"a": 1}),
    extended(
        "extended_insert_returning",
        note("extended_insert_returning", "a") + " RETURNING key",
        effects={"a": 1},
    ),
    extended(
        "extended_update_counter",
        "UPDATE corpus_ledger SET times = times + 1 WHERE exchange = 'extended_update_counter'",
        before=("INSERT INTO corpus_ledger VALUES ('extended_update_counter', 'n', 0)",),
        effects={"n": 1},
    ),
]

EXCHANGES: list[Exchange] = [
    *BASICS,
    *BINARY,
    *STATEMENTS,
    *PORTALS,
    *FLUSHES,
    *PIPELINES,
]

"""COPY in both directions and both protocols, with everything that can go wrong in the middle."""

from tests import wire
from tests.corpus.model import Closed, Exchange, Ready, Send, Step, Until, exchange, simple, syncs
from tests.wire import COPY_DONE, FLUSH, SYNC, copy_data, copy_fail, query


def into(name: str) -> str:
    """The COPY statement that fills the ledger."""
    return f"COPY corpus_ledger (exchange, key) FROM STDIN /* {name} */"


def line(name: str, key: str) -> bytes:
    """One text-format row of the ledger, as CopyData."""
    return copy_data(f"{name}\t{key}\n".encode())


def copy_in(name: str, *data: bytes) -> list[Step]:
    """Simple-protocol COPY: wait for G, send the data, wait for Z."""
    return [Send(query(into(name))), Until(b"G"), Send(b"".join(data)), Ready()]


OUT = [
    simple("copy_out", "COPY (SELECT * FROM corpus_rows WHERE id < 20 ORDER BY id) TO STDOUT"),
    simple("copy_out_empty", "COPY (SELECT 1 WHERE false) TO STDOUT"),
    simple("copy_out_csv", "COPY (SELECT 1, 'a,b', NULL) TO STDOUT WITH (FORMAT csv, HEADER)"),
    simple(
        "copy_out_binary",
        "COPY (SELECT id, b FROM corpus_rows WHERE id < 9) TO STDOUT (FORMAT binary)",
    ),
    simple("copy_out_table", "COPY corpus_parent TO STDOUT"),
    simple(
        "copy_out_many",
        "COPY (SELECT i, repeat('x', i % 50) FROM generate_series(1, 5000) i) TO STDOUT",
    ),
    simple("copy_out_error_at_once", "COPY no_such_table TO STDOUT"),
    simple(
        "copy_out_error_midway",
        "COPY (SELECT 1 / (2500 - i) FROM generate_series(1, 5000) i) TO STDOUT",
    ),
    simple("copy_out_within_statements", "SELECT 1; COPY (SELECT 2) TO STDOUT; SELECT 3"),
    simple("copy_out_in_transaction", "BEGIN", "COPY (SELECT 1) TO STDOUT", "COMMIT"),
    exchange("copy_out_extended", wire.run("COPY (SELECT 1, 'x') TO STDOUT") + SYNC),
    exchange(
        "copy_out_extended_pipelined",
        syncs(2, wire.run("COPY (SELECT 1) TO STDOUT") + SYNC, wire.run("SELECT 2") + SYNC),
    ),
]

IN_SIMPLE = [
    exchange(
        "copy_in",
        copy_in("copy_in", line("copy_in", "a"), line("copy_in", "b"), COPY_DONE),
        effects={"a": 1, "b": 1},
    ),
    exchange("copy_in_empty", copy_in("copy_in_empty", COPY_DONE)),
    exchange(
        "copy_in_end_marker",
        copy_in(
            "copy_in_end_marker", line("copy_in_end_marker", "a"), copy_data(b"\\.\n"), COPY_DONE
        ),
        effects={"a": 1},
    ),
    exchange(
        "copy_in_data_across_messages",
        copy_in(
            "copy_in_data_across_messages",
            copy_data(b"copy_in_data_ac"),
            copy_data(b"ross_messages\t"),
            copy_data(b""),
            copy_data(b"a\n"),
            COPY_DONE,
        ),
        effects={"a": 1},
    ),
    exchange(
        "copy_in_many",
        copy_in(
            "copy_in_many",
            *(line("copy_in_many", f"k{n % 10}") for n in range(2000)),
            COPY_DONE,
        ),
        effects={f"k{n}": 200 for n in range(10)},
    ),
    exchange(
        "copy_in_fail", copy_in("copy_in_fail", line("copy_in_fail", "x"), copy_fail("no more"))
    ),
    exchange("copy_in_fail_at_once", copy_in("copy_in_fail_at_once", copy_fail("changed my mind"))),
    exchange(
        "copy_in_bad_row_then_late_data",
        copy_in(
            "copy_in_bad_row_then_late_data",
            line("copy_in_bad_row_then_late_data", "x"),
            copy_data(b"only one column\n"),
            *(line("copy_in_bad_row_then_late_data", "late") for _ in range(20)),
            COPY_DONE,
        ),
        query("SELECT 'still here'"),
    ),
    exchange(
        "copy_in_bad_row_then_late_fail",
        copy_in("copy_in_bad_row_then_late_fail", copy_data(b"bad\n"), copy_fail("late")),
        query("SELECT 'still here'"),
    ),
    exchange(
        "copy_in_error_then_nothing",
        [Send(query(into("copy_in_error_then_nothing"))), Until(b"G")],
        [Send(copy_data(b"bad\n") + COPY_DONE), Until(b"E"), Ready()],
        query("SELECT 1"),
    ),
    exchange(
        "copy_in_without_waiting",
        [
            Send(
                query(into("copy_in_without_waiting"))
                + line("copy_in_without_waiting", "a")
                + COPY_DONE
                + query("SELECT 1")
            ),
            Ready(2),
        ],
        effects={"a": 1},
    ),
    exchange(
        "copy_in_unknown_table_with_data",
        [
            Send(
                query("COPY no_such_table FROM STDIN")
                + line("copy_in_unknown_table_with_data", "x")
                + COPY_DONE
            ),
            Ready(),
        ],
        query("SELECT 'still here'"),
    ),
    exchange(
        "copy_in_flush_and_sync_inside",
        copy_in(
            "copy_in_flush_and_sync_inside",
            line("copy_in_flush_and_sync_inside", "a"),
            FLUSH,
            SYNC,
            line("copy_in_flush_and_sync_inside", "b"),
            COPY_DONE,
        ),
        effects={"a": 1, "b": 1},
    ),
    exchange(
        "copy_in_query_inside",
        [Send(query(into("copy_in_query_inside"))), Until(b"G")],
        [Send(query("SELECT 1")), Closed()],
    ),
    exchange(
        "copy_in_transaction",
        query("BEGIN"),
        copy_in("copy_in_transaction", line("copy_in_transaction", "a"), COPY_DONE),
        query("COMMIT"),
        effects={"a": 1},
    ),
    exchange(
        "copy_in_rolled_back",
        query("BEGIN"),
        copy_in("copy_in_rolled_back", line("copy_in_rolled_back", "x"), COPY_DONE),
        query("ROLLBACK"),
    ),
    exchange(
        "copy_in_error_in_transaction",
        query("BEGIN"),
        copy_in("copy_in_error_in_transaction", copy_data(b"bad\n"), COPY_DONE),
        query("SELECT 1"),
        query("ROLLBACK"),
    ),
    exchange(
        "copy_in_within_statements",
        [Send(query(f"SELECT 1; {into('copy_in_within_statements')}; SELECT 2")), Until(b"G")],
        [Send(line("copy_in_within_statements", "a") + COPY_DONE), Ready()],
        effects={"a": 1},
    ),
    exchange(
        "copy_in_big_message",
        copy_in(
            "copy_in_big_message",
            copy_data(b"".join(b"copy_in_big_message\tk\n" for _ in range(20_000))),
            COPY_DONE,
        ),
        effects={"k": 20_000},
    ),
    exchange(
        "copy_in_foreign_key_fails_at_end",
        [Send(query("COPY corpus_rows (id) FROM STDIN")), Until(b"G")],
        [Send(copy_data(b"900000\n1\n") + COPY_DONE), Ready()],
        query("SELECT count(*) FROM corpus_rows WHERE id = 900000"),
    ),
]

IN_EXTENDED = [
    exchange(
        "copy_in_extended",
        [Send(wire.run(into("copy_in_extended")) + FLUSH), Until(b"G")],
        [Send(line("copy_in_extended", "a") + COPY_DONE + SYNC), Ready()],
        effects={"a": 1},
    ),
    exchange(
        "copy_in_extended_without_flush",
        [
            Send(
                wire.run(into("copy_in_extended_without_flush"))
                + line("copy_in_extended_without_flush", "a")
                + COPY_DONE
                + SYNC
            ),
            Ready(),
        ],
        effects={"a": 1},
    ),
    exchange(
        "copy_in_extended_sync_too_early",
        # A driver that syncs right after Execute: the server ignores that Sync (53.2.6).
        [
            Send(
                wire.run(into("copy_in_extended_sync_too_early"))
                + SYNC
                + line("copy_in_extended_sync_too_early", "a")
                + COPY_DONE
                + SYNC
            ),
            Ready(),
        ],
        query("SELECT 1"),
        effects={"a": 1},
    ),
    exchange(
        "copy_in_extended_fail",
        [Send(wire.run(into("copy_in_extended_fail")) + FLUSH), Until(b"G")],
        [Send(copy_fail("stop") + SYNC), Ready()],
    ),
    exchange(
        "copy_in_extended_bad_row",
        [Send(wire.run(into("copy_in_extended_bad_row")) + FLUSH), Until(b"G")],
        [
            Send(
                copy_data(b"bad\n")
                + line("copy_in_extended_bad_row", "late")
                + COPY_DONE
                + wire.run("SELECT 'skipped'")
                + SYNC
            ),
            Ready(),
        ],
        wire.run("SELECT 'after'") + SYNC,
    ),
    exchange(
        "copy_in_extended_refused",
        [
            Send(
                wire.run("COPY no_such_table FROM STDIN")
                + line("copy_in_extended_refused", "late")
                + COPY_DONE
                + SYNC
            ),
            Ready(),
        ],
        query("SELECT 1"),
    ),
    exchange(
        "copy_in_extended_then_more",
        [Send(wire.run(into("copy_in_extended_then_more")) + FLUSH), Until(b"G")],
        [
            Send(
                line("copy_in_extended_then_more", "a")
                + COPY_DONE
                + wire.run("SELECT 'in the same batch'")
                + SYNC
                + wire.run("SELECT 'in the next'")
                + SYNC
            ),
            Ready(2),
        ],
        effects={"a": 1},
    ),
]

STRAY = [
    exchange("stray_copy_data", [Send(copy_data(b"x") + COPY_DONE + query("SELECT 1")), Ready()]),
    exchange("stray_copy_fail", [Send(copy_fail("x") + query("SELECT 1")), Ready()]),
]

EXCHANGES: list[Exchange] = [*OUT, *IN_SIMPLE, *IN_EXTENDED, *STRAY]

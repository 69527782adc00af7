"""Properties of the reading of SQL: never a crash, never more trust than the real parser allows.

The oracle is libpg_query, the server's own parser as a library (postgast). It never sees more than
4 kB: deep nesting crashes it, which is why it is not in the data path.
"""

import postgast
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.core.errors import PeerProtocolError
from proxy.postgres.protocol import lexer, quick
from proxy.postgres.protocol.calls import Category, category
from proxy.postgres.protocol.classify import Class, Classifier, Opaque, Script, Tx, read
from tests.unit.postgres.protocol.sql_table import rows

TEXTS = [text for _, text in rows()]

_PIECE_TEXT = (
    "SELECT INSERT INTO UPDATE DELETE FROM WHERE SET LOCAL t a.b = , ; ( ) 1 'x' 'it''s' \"q\" "
    "\"q\"\"r\" $1 $$ $a$ -- /* */ \\ E'a\\'b' E' ' \" BEGIN COMMIT ROLLBACK TO SAVEPOINT s "
    "set_config( nextval( lower( f( pg_catalog. my. now() 'a.b' false true :: text AS for update "
    "share no key WITH x AS MATERIALIZED VALUES TABLE EXPLAIN ANALYZE COPY STDIN STDOUT CREATE "
    "TEMP TABLE LISTEN PREPARE EXECUTE p DEALLOCATE ALL DISCARD DECLARE CURSOR HOLD FOR CLOSE DO "
    "current_setting( 'transaction_read_only' pg_advisory_lock( u&\"x\" U&'x' B'1' x'F' N'y' * + - "
    "1for . .. [ ] :: := => é \n \t USING ON CONFLICT DO NOTHING RETURNING ORDER BY GROUP OVER ( "
    "set_config ( 'a.b' , 'c' , false ) pg_settings \\' '\n' TIME ZONE ROLE NAMES RESET INTERVAL"
)
_PIECES = _PIECE_TEXT.split(" ")

soup = st.lists(st.sampled_from(_PIECES), max_size=25).map(" ".join)
tight = st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)
mutated = st.builds(
    lambda text, at, piece: text[: at % (len(text) + 1)] + piece + text[at % (len(text) + 1) :],
    st.sampled_from(TEXTS),
    st.integers(0, 200),
    st.sampled_from(_PIECES),
)
joined = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map("\n;".join)
sql = st.one_of(soup, tight, mutated, joined)

COMMON = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def unread(script: Script) -> bool:
    return any(not statement.verb for statement in script.statements)


@COMMON
@given(st.one_of(st.binary(max_size=200), sql.map(str.encode)), st.booleans())
def test_any_bytes_are_read_or_refused(text: bytes, conforming: bool) -> None:
    script = read(text, conforming)
    assert script.kind in Class
    if len(script.statements) > 1:
        assert script.kind is Class.OTHER
    try:
        tokens = lexer.tokens(text, conforming)
    except PeerProtocolError:
        return
    covered = [(start, end) for _, _, start, end in tokens]
    assert covered == sorted(covered)
    assert all(0 <= start < end <= len(text) for start, end in covered)


@COMMON
@given(sql)
@example("SELECT 1for update")
@example("SELECT $$ ' $$, set_config('a', 'b', false) --'")
@example("SELECT \"'\", set_config('a','b',false) --'")
@example("INSERT INTO t (set_config('a', 'b', false))")
@example("select my . lower(1)")
def test_the_quick_proof_agrees_with_the_lexer(text: str) -> None:
    script = quick.plain(text.encode())
    if script is None:
        return
    full = read(text.encode())
    # What the lexer refuses the server refuses too, but for U&"…", whose value does not matter.
    assert full == script or (unread(full) and len(full.statements) == 1)


@COMMON
@given(sql)
def test_comments_and_blanks_around_change_nothing(text: str) -> None:
    script = read(text.encode())
    if unread(script):
        return
    wrapped = b"/* ' \" $$ /* ; */ */ -- ' ;\n\t" + text.encode() + b"\n-- '\n"
    assert read(wrapped) == script
    assert Classifier().script(text.encode()) == script


@COMMON
@given(sql)
def test_scripts_are_the_sum_of_their_statements(text: str) -> None:
    script = read(text.encode())
    if unread(script):
        return
    doubled = read(text.encode() + b"\n;;" + text.encode())
    assert doubled.statements == script.statements * 2


# What the server calls a statement → what we may call it.
_READS = {"select_stmt", "variable_show_stmt", "explain_stmt", "copy_stmt"}
_CONTROL = {"transaction_stmt"}
_SESSION = {
    "variable_set_stmt",
    "prepare_stmt",
    "deallocate_stmt",
    "listen_stmt",
    "constraints_set_stmt",
    "unlisten_stmt",
    "discard_stmt",
    "select_stmt",
}
_NEVER_WRITES = {
    "do_stmt",
    "call_stmt",
    "load_stmt",
    "check_point_stmt",
    "alter_system_stmt",
    "createdb_stmt",
    "dropdb_stmt",
    "execute_stmt",
}


@COMMON
@given(sql)
def test_the_real_parser_agrees(text: str) -> None:
    if len(text) > 4000 or "\0" in text:
        return
    try:
        parsed = postgast.parse(text)
    except postgast.PgQueryError:
        return  # the server refuses it: nothing runs
    script = read(text.encode())
    if unread(script):
        return
    kinds = [raw.stmt.WhichOneof("node") for raw in parsed.stmts]
    assert len(kinds) == len(script.statements)
    for kind, statement, raw in zip(kinds, script.statements, parsed.stmts, strict=True):
        if statement.kind is Class.READ:
            assert kind in _READS
            assert kind != "select_stmt" or pure(raw.stmt.select_stmt)
            assert kind == "explain_stmt" or called(raw) <= _READABLE
            if statement.opaque is Opaque.NONE and kind == "select_stmt":
                assert called(raw) <= _KNOWN
        elif statement.kind is Class.BEGIN:
            assert kind in _CONTROL
        elif statement.kind in (Class.SETTING, Class.SEQUENCE):
            assert kind in _SESSION
        elif statement.kind is Class.WRITE:
            assert kind not in _NEVER_WRITES
        assert (kind == "transaction_stmt") == (statement.tx not in (Tx.NONE, Tx.LOCAL)), statement


_KNOWN = {Category.HARMLESS, Category.CURRENT_SETTING}
_READABLE = {*_KNOWN, Category.UNKNOWN}


def called(tree: object) -> set[Category]:
    """What the functions in a parse tree may do."""
    found = set()
    for name in postgast.extract_functions(tree):
        schema, _, function = name.rpartition(".")
        kind = category(function.encode())
        known = kind is not Category.HARMLESS or schema in ("", "pg_catalog")
        found.add(kind if known else Category.UNKNOWN)
    return found


def pure(select: "postgast.nodes.SelectStmt") -> bool:  # type: ignore[name-defined]
    """No INTO, no row locks, no data-modifying WITH, as the parser sees it."""
    if select.HasField("into_clause") or select.locking_clause:
        return False
    for item in select.with_clause.ctes if select.HasField("with_clause") else ():
        if item.common_table_expr.ctequery.WhichOneof("node") != "select_stmt":
            return False
    return True


_CALLED_TEXT = (
    "set_config nextval currval lastval setval pg_notify pg_advisory_lock pg_reload_conf lo_create "
    "dblink_exec setseed pg_terminate_backend"
)
_CALLED = _CALLED_TEXT.split()
_SHAPES = (
    "SELECT {}",
    "SELECT 1, ({}), 2",
    "SELECT * FROM {} AS f(a)",
    "SELECT a FROM t WHERE {} IS NULL",
    "WITH x AS (SELECT {}) SELECT * FROM x",
    "VALUES ({})",
    "SELECT CASE WHEN a THEN {} END FROM t",
    "SELECT lower({}), b[{}] FROM t ORDER BY {}",
    "(SELECT {} UNION SELECT 1)",
    "EXPLAIN ANALYZE SELECT {}",
    "COPY (SELECT {}) TO STDOUT",
    "SELECT count(*) FILTER (WHERE {} IS NULL) OVER (PARTITION BY {}) FROM t",
)
_NAMES = ("{}", "{} ", "{}/* ' */", '"{}"', "pg_catalog.{}", 'pg_catalog . "{}" ', "{}\n--'\n")


@COMMON
@given(
    st.sampled_from(_CALLED),
    st.sampled_from(_SHAPES),
    st.sampled_from(_NAMES),
    st.booleans(),
    st.sampled_from(["", "a", "'x', 'y', false", "1, '('"]),
)
def test_no_spelling_hides_a_denied_call(
    function: str, shape: str, name: str, upper: bool, arguments: str
) -> None:
    written = function.upper() if upper and '"' not in name else function
    call = name.format(written) + f"({arguments})"
    text = shape.replace("{}", call).encode()
    assert read(text).kind is not Class.READ
    assert Classifier().script(text).kind is not Class.READ

"""Statements and what they are: one line each, class and flags first.

Flags after the class letter: `?` calls functions we do not know (WEAK), `!` runs code we cannot
read (STRONG), `<` COPY in, `>` COPY out.
"""

CLASSES = r"""
R   SELECT 1
R   select 1;
R   SELECT
R   SELECT * FROM t
R   select*from t
R   select"a"from"t"
R   (SELECT 1)
R   ((SELECT 1) UNION (SELECT 2)) ORDER BY 1
R   VALUES (1), (2)
R   TABLE t
R   SHOW search_path
R   SHOW ALL
R   SHOW transaction_read_only
R   SHOW TRANSACTION ISOLATION LEVEL
R   SELECT count(*), max(a), coalesce(b, 'x') FROM t GROUP BY c HAVING count(*) > 1
R   SELECT now(), current_timestamp, current_user
R   SELECT pg_catalog.lower('A')
R   SELECT "lower"('A')
R   SELECT pg_sleep(1)
R   SELECT pg_is_in_recovery()
R   SELECT pg_backend_pid()
R   SELECT version()
R   SELECT current_setting('server_version_num')
R   SELECT current_setting('app.user', true)
R   SELECT random(), gen_random_uuid()
R   SELECT 'set_config(', 'for update', 'insert into'
R   SELECT $$ DELETE FROM t; COMMIT $$
R   SELECT $x$ nextval('a') $x$
R   SELECT E'it\'s; DROP TABLE t'
R   SELECT "delete" FROM t
R   SELECT update FROM t
R   SELECT a AS "for update" FROM t
R   SELECT 1 -- ; COMMIT
R   SELECT /* ; COMMIT */ 1
R   SELECT /* a /* nested ; */ comment */ 1
R   /* lead */ SELECT 1
R   -- lead
R   SELECT substring('abc' FROM 1 FOR 2)
R   SELECT x::numeric(10,2), CAST(y AS varchar(3)) FROM t
R   SELECT sum(a) OVER (PARTITION BY b) FROM t
R   SELECT count(*) FILTER (WHERE a) FROM t
R   SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t
R   SELECT * FROM generate_series(1, 10) AS g(i)
R   SELECT * FROM unnest(ARRAY[1,2]) WITH ORDINALITY AS u(v, n)
R   SELECT * FROM t TABLESAMPLE bernoulli(10)
R   SELECT * FROM t WHERE a IN (SELECT b FROM u) AND EXISTS (SELECT 1 FROM v)
R   SELECT * FROM t WHERE (a, b) IN ((1, 2), (3, 4))
R   SELECT a[1], b -> 'x' ->> 'y', c @> '{}' FROM t
R   SELECT CASE WHEN a THEN (1) ELSE (2) END FROM t
R   SELECT * FROM t LIMIT $1 OFFSET $2
R   SELECT * FROM a JOIN b ON (a.x = b.x) LEFT JOIN c USING (y)
R   SELECT * FROM t, LATERAL (SELECT 1) AS s
R   SELECT extract(epoch FROM now()), position('a' IN 'b'), trim(both ' ' from x) FROM t
R   WITH x AS (SELECT 1) SELECT * FROM x
R   WITH x(a) AS (SELECT 1), y(b) AS NOT MATERIALIZED (SELECT 2) SELECT * FROM x, y
R   WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t) SELECT sum(n) FROM t
R   EXPLAIN SELECT 1
R   EXPLAIN INSERT INTO t VALUES (1)
R   EXPLAIN VERBOSE UPDATE t SET a = 1
R   EXPLAIN (COSTS OFF) DELETE FROM t
R   EXPLAIN (ANALYZE FALSE) DELETE FROM t
R   EXPLAIN (ANALYZE off, VERBOSE) DELETE FROM t
R   EXPLAIN ANALYZE SELECT 1
R   EXPLAIN (ANALYZE, BUFFERS) SELECT 1
R>  COPY t TO STDOUT
R>  COPY t (a, b) TO STDOUT WITH (FORMAT csv)
R>  COPY s.t TO STDOUT
R>  COPY (SELECT * FROM t) TO STDOUT
R>  copy (select lower(a) from t where b in (1,2)) to stdout with csv
R?  SELECT my_function(1)
R?  SELECT s.my_function(1)
R?  SELECT "My Function"(1)
R?  SELECT public.lower('x')
R?  SELECT * FROM my_function(1) AS f(a)
R?  SELECT uuid_my() FROM t WHERE g(a)
R?  EXPLAIN SELECT f(1)
R?  SELECT s.filter(1)
R?  WITH x AS (SELECT f(1)) SELECT * FROM x
R?  SELECT a, f(x) AS (y int)
X   DECLARE c CURSOR FOR SELECT 1
X   DECLARE c BINARY NO SCROLL CURSOR WITHOUT HOLD FOR SELECT 1
X   DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE
X   DECLARE c CURSOR WITH HOLD FOR SELECT 1
X   FETCH 10 FROM c
X   FETCH NEXT IN c
X   MOVE FORWARD ALL IN c
X   CLOSE c
X   CLOSE ALL
B   BEGIN
B   begin work;
B   BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE
B   START TRANSACTION
B   start transaction read only
B   COMMIT
B   COMMIT WORK AND CHAIN
B   COMMIT AND NO CHAIN
B   END
B   END TRANSACTION
B   ROLLBACK
B   ROLLBACK AND CHAIN
B   ABORT
B   SAVEPOINT a
B   RELEASE SAVEPOINT a
B   RELEASE a
B   ROLLBACK TO a
B   ROLLBACK TRANSACTION TO SAVEPOINT "A"
X   PREPARE TRANSACTION 'gid'
X   COMMIT PREPARED 'gid'
X   ROLLBACK PREPARED 'gid'
S   SET search_path TO public
S   SET LOCAL work_mem = '1MB'
S   SET TRANSACTION ISOLATION LEVEL SERIALIZABLE
S   SET TRANSACTION READ WRITE
S   SET CONSTRAINTS ALL DEFERRED
S   SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
S   SET ROLE a
S   SET SESSION AUTHORIZATION a
S   SET TIME ZONE 'UTC'
S   SET NAMES 'UTF8'
S   SET SCHEMA 'x'
S   SET XML OPTION DOCUMENT
S   SET seed = 0.5
S   RESET ALL
S   RESET search_path
S   RESET TIME ZONE
S   RESET SESSION AUTHORIZATION
S   RESET ROLE
S   RESET TRANSACTION ISOLATION LEVEL
S   PREPARE p AS SELECT 1
S   PREPARE p (int, text) AS INSERT INTO t VALUES ($1, $2)
S   DEALLOCATE p
S   DEALLOCATE PREPARE p
S   DEALLOCATE ALL
S   LISTEN a
S   UNLISTEN a
S   UNLISTEN *
S   DISCARD ALL
S   DISCARD PLANS
S   DISCARD TEMP
S   DISCARD SEQUENCES
S   SELECT set_config('a.b', 'c', false)
S   SELECT set_config('a.b', $1, false)
S   SELECT pg_catalog.set_config('search_path', '', false)
S   SELECT set_config('a.b', 'c', true)
S   SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new
S   SELECT set_config('a.b', $1::text, false), set_config('a.c', $2, $3)
N   SELECT nextval('s')
N   SELECT nextval('s'::regclass)
N   select nextval ('hibernate_sequence')
N   SELECT nextval('s') AS id, nextval('t') AS other
N   SELECT pg_catalog.nextval('s')
X   SELECT nextval('s') FROM t
X   SELECT nextval('s') + 1
X?  SELECT nextval('s'), f(1)
X   SELECT currval('s')
X   SELECT lastval()
X   SELECT setval('s', 5)
X!  SELECT set_config('a.b', c, false) FROM t
X!  SELECT set_config(a, 'b', false)
X!  SELECT set_config('a', 'b', false) WHERE x
X!  SELECT f FROM (SELECT set_config('a', 'b', false)) AS f
X!  SELECT CASE WHEN a THEN set_config('a', 'b', false) END
X!  SELECT set_config('a', lower('B'), false)
X!  SELECT "set_config"('a', b, false)
X   SELECT set_config('a', b, true) FROM t
W   INSERT INTO t VALUES (1)
W   INSERT INTO t (a, b) VALUES (1, now()) RETURNING id
W   INSERT INTO "s"."t" ("a") SELECT lower(x) FROM u ON CONFLICT (a) DO NOTHING
W   INSERT INTO t DEFAULT VALUES
W   INSERT INTO t (a) VALUES (nextval('s'))
W   INSERT INTO t SELECT pg_notify('c', 'x')
W?  INSERT INTO t (a) VALUES (f(1))
W   UPDATE t SET a = 1 WHERE b IN (1, 2)
W   UPDATE t SET (a, b) = (1, 2)
W?  UPDATE t SET a = f(b)
W   DELETE FROM t USING u WHERE t.a = u.a
W   MERGE INTO t USING u ON (t.a = u.a) WHEN MATCHED THEN DELETE
W   WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x
W   WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x
W   WITH x AS (SELECT 1) UPDATE t SET a = 1
W   (WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x)
W   SELECT * FROM t FOR UPDATE
W   SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED
W   SELECT * FROM t FOR SHARE OF t NOWAIT
W   SELECT * FROM t for/**/key/**/share
W   SELECT * FROM t LIMIT 1for update
W   SELECT * INTO x FROM t
W   SELECT a INTO TEMP x FROM t
W   SELECT pg_notify('a', 'b')
W   SELECT lo_create(0)
W   SELECT pg_advisory_xact_lock(1)
W   SELECT pg_try_advisory_xact_lock(1)
W   EXPLAIN ANALYZE INSERT INTO t VALUES (1)
W   EXPLAIN (ANALYZE) DELETE FROM t
W   EXPLAIN (VERBOSE, ANALYZE true) UPDATE t SET a = 1
W   EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1
W<  COPY t FROM STDIN
W<  COPY "S"."t" (a, "from") FROM STDIN WITH (FORMAT binary)
W   COPY t FROM '/tmp/x'
W>  COPY (DELETE FROM t RETURNING *) TO STDOUT
W   TRUNCATE t
W   CREATE TABLE t (a int, b varchar(10) DEFAULT lower('X'))
W   CREATE TABLE x AS SELECT 1
W?  CREATE TABLE x AS SELECT f(1)
W   CREATE INDEX ON t (lower(a))
W   CREATE TEMP TABLE t (a int)
W   CREATE VIEW v AS SELECT set_config('a', 'b', false)
W   CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT 2'
W   CREATE OR REPLACE FUNCTION f() RETURNS int AS $$ BEGIN COMMIT; END $$ LANGUAGE plpgsql
W?  CREATE EXTENSION hstore
W   CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()
W   CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM u; SELECT 1)
W   CREATE USER a
W   CREATE SCHEMA s
W   ALTER TABLE t ADD COLUMN a int
W   ALTER ROLE a SET work_mem = '1MB'
W   DROP TABLE t
W   DROP TABLE IF EXISTS t CASCADE
W   COMMENT ON TABLE t IS 'x'
W   GRANT SELECT ON t TO a
W   REVOKE ALL ON t FROM a
W   SECURITY LABEL ON TABLE t IS 'x'
W   IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y
W   REASSIGN OWNED BY a TO b
W?  REFRESH MATERIALIZED VIEW v
W   NOTIFY a
W   NOTIFY a, 'x'
W   LOCK TABLE t
W   ANALYZE t
X   VACUUM t
X   VACUUM (FULL, ANALYZE) t
X   CLUSTER
X   REINDEX TABLE t
X   CHECKPOINT
X?  CREATE INDEX CONCURRENTLY i ON t (a)
X?  CREATE DATABASE d
X?  CREATE TABLESPACE x LOCATION '/tmp'
X   DROP DATABASE d
X   DROP INDEX CONCURRENTLY i
X   ALTER SYSTEM SET work_mem = '1MB'
X   ALTER DATABASE d SET TABLESPACE x
X?  CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION y
X   ALTER TABLE t DETACH PARTITION p CONCURRENTLY
X   LOAD 'auto_explain'
X!  CALL p(1)
X!  DO $$ BEGIN END $$
X!  DO LANGUAGE plpgsql 'BEGIN END'
X!  EXECUTE p
X!  EXECUTE p (1, 'x')
X!  EXPLAIN ANALYZE EXECUTE p
X   COPY t TO '/tmp/x'
X   COPY (SELECT 1) TO PROGRAM 'cat'
X   COPY t FROM PROGRAM 'cat'
X   COPY t TO PROGRAM 'cat'
X   SELECT pg_advisory_lock(1)
X   SELECT pg_try_advisory_lock(1, 2) FROM t
X   SELECT pg_advisory_unlock_all()
X   INSERT INTO t SELECT pg_advisory_lock(1)
X?  SELECT pg_terminate_backend(1)
X?  SELECT pg_cancel_backend(pid) FROM pg_stat_activity
X?  SELECT pg_reload_conf()
X?  SELECT pg_switch_wal()
X?  SELECT pg_create_restore_point('x')
X?  SELECT pg_logical_emit_message(false, 'a', 'b')
X?  SELECT pg_create_physical_replication_slot('x')
X?  SELECT pg_drop_replication_slot('x')
X?  SELECT pg_logical_slot_get_changes('x', NULL, NULL)
X?  SELECT pg_replication_origin_create('x')
X?  SELECT pg_backup_start('x')
X?  SELECT pg_promote()
X?  SELECT pg_stat_reset()
X?  SELECT pg_stat_statements_reset()
X?  SELECT setseed(0.5)
X?  SELECT pg_export_snapshot()
X?  SELECT dblink_exec('c', 'DELETE FROM t')
X?  SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)
X?  SELECT "pg_reload_conf"()
X?  SELECT pg_catalog . pg_reload_conf ()
X?  SELECT pg_reload_conf/**/()
X?  INSERT INTO t SELECT pg_logical_emit_message(false, 'a', 'b')
X!  SELECT query_to_xml('DELETE FROM t', true, true, '')
X!  SELECT ts_stat('SELECT f()')
X   SELECT * FROM pg_settings
X   SELECT current_setting('transaction_read_only')
X   SELECT current_setting('TRANSACTION_READ_ONLY')
X   SELECT current_setting($1)
X   WITH s AS (SELECT name FROM pg_settings) SELECT * FROM s
X!  SELEKT 1
X!  SELECT 'unterminated
X!  SELECT "unterminated
X!  SELECT $a$ unterminated
X!  SELECT /* unterminated
X!  SELECT (1
X!  SELECT 1)
X!  SELECT \ 1
X!  SELECT U&"a" FROM t
X!  SELECT E'a\
X!  CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END
X!  SET
X!  SET x
X!  SET search_path FROM CURRENT
X!  START
X!  COPY
X!  COPY (BEGIN) TO STDOUT
X!  COPY ((SELECT 1) TO STDOUT
"""


def rows() -> list[tuple[str, str]]:
    """(class and flags, text); a comment alone on its line takes the next line with it."""
    found = []
    for line in CLASSES.strip().splitlines():
        what, text = line[:4].strip(), line[4:]
        found.append((what, text + "\nSELECT 1" if text.startswith("--") else text))
    return found


SEVERAL = (
    "SELECT 1; SELECT 2",
    "BEGIN; SELECT 1; COMMIT",
    "SELECT 1;; SELECT 2;",
    "SET a.b = 1; SELECT 1",
    "SELECT $$ ; $$; DELETE FROM t",
    "SELECT 1; -- x\n; SELECT ';'",
)

EMPTY = ("", " ", ";", " ; ;\n", "-- x", "/* x */", "/* a /* b */ c */ -- d")

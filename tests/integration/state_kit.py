"""A direct connection whose state is tracked as in the proxy, and the server's word on it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.postgres.protocol import fingerprint, messages
from proxy.postgres.protocol.classify import Classifier, Script
from proxy.postgres.protocol.fingerprint import Fingerprint
from proxy.postgres.protocol.restore import cleaning, restoration
from proxy.postgres.protocol.session_state import SessionState
from tests import wire
from tests.wire import PgWire

SETUP = """
CREATE ROLE restore_boss;
CREATE ROLE "Restore Reader";
GRANT restore_boss, "Restore Reader" TO app_trust;
CREATE SCHEMA restore_s;
GRANT USAGE ON SCHEMA restore_s TO PUBLIC;
CREATE TABLE restore_s.t (a int);
INSERT INTO restore_s.t VALUES (1);
GRANT SELECT ON restore_s.t TO PUBLIC;
CREATE FUNCTION restore_s.hide_work_mem() RETURNS void LANGUAGE plpgsql
  AS 'BEGIN PERFORM set_config(''work_mem'', ''7MB'', false); END';
CREATE FUNCTION restore_s.hide_known() RETURNS void LANGUAGE plpgsql
  AS 'BEGIN PERFORM set_config(''app.known'', ''changed'', false); END';
CREATE FUNCTION restore_s.unset_work_mem() RETURNS void LANGUAGE plpgsql
  AS 'BEGIN RESET work_mem; END';
CREATE FUNCTION restore_s.hide_prepared() RETURNS void LANGUAGE plpgsql
  AS 'BEGIN EXECUTE ''PREPARE hidden AS SELECT 1''; END';
CREATE PROCEDURE restore_s.proc() LANGUAGE plpgsql
  AS 'BEGIN PERFORM set_config(''lock_timeout'', ''3s'', false); END';
"""
TEARDOWN = """
DROP SCHEMA restore_s CASCADE;
DROP ROLE restore_boss;
DROP ROLE "Restore Reader";
"""

CLASSIFIER = Classifier()
Step = str | tuple[str, tuple[str | None, ...]]


@contextmanager
def objects(place: tuple[str, int]) -> Iterator[None]:
    """Roles and functions for the tests, while they run."""
    with PgWire.session(place) as admin:
        for text in SETUP.split(";\nCREATE"):
            answer = admin.query(text if text.startswith("\n") else "CREATE" + text)
            assert wire.sqlstate(answer) is None, answer
        try:
            yield
        finally:
            assert wire.sqlstate(admin.query(TEARDOWN)) is None


@dataclass
class Tracked:
    """A direct connection whose replies go through a SessionState, as in the proxy."""

    link: PgWire
    state: SessionState

    def run(self, step: Step) -> None:
        text, params = (step, None) if isinstance(step, str) else step
        conforming = self.link.parameters["standard_conforming_strings"] == "on"
        script = CLASSIFIER.script(text.encode(), conforming)
        if params is None:
            self.link.send(wire.query(text))
        else:
            self.link.send(wire.run(text, *params) + wire.SYNC)
        bound = None if params is None else tuple(p.encode() if p else None for p in params)
        self.feed(script, self.link.until_ready(), bound)

    def feed(
        self, script: Script, answer: Sequence[bytes], params: tuple[bytes | None, ...] | None
    ) -> None:
        at = 0
        for raw in answer:
            match raw[:1]:
                case b"C":
                    known = script.statements
                    self.state.ran(known[min(at, len(known) - 1)], raw[5:-1], params)
                    at += 1
                case b"E":
                    self.state.errored()
                case b"S":
                    name, value = messages.read_parameter_status(raw, 5)
                    self.link.parameters[name.decode()] = value.decode()
                    self.state.reported(name, value)
                case b"Z":
                    self.state.ready(raw[5])

    def look(self) -> Fingerprint:
        return look(self.link, self.state)


def look(link: PgWire, state: SessionState) -> Fingerprint:
    link.send(fingerprint.ask(state.custom_names))
    answer = link.until_ready()
    assert wire.sqlstate(answer) is None, [wire.error_fields(r) for r in answer if r[:1] == b"E"]
    return fingerprint.read([raw[5:] for raw in answer if raw[:1] == b"D"])


def settings(link: PgWire) -> list[tuple[bytes | None, ...]]:
    """All settings but those of a transaction, or of a language that is loaded when needed."""
    return wire.rows(
        link.query(
            "SELECT name, setting, source FROM pg_catalog.pg_settings"
            " WHERE name NOT LIKE 'plpgsql.%' AND name NOT LIKE 'transaction_%' ORDER BY 1"
        )
    )


def restore(link: PgWire, state: SessionState) -> None:
    what = restoration(state)
    link.send(what.messages)
    answer = link.until_ready(what.readies) if what.readies else []
    assert wire.sqlstate(answer) is None, [wire.error_fields(r) for r in answer if r[:1] == b"E"]


def clean(tracked: Tracked) -> None:
    what = cleaning(tracked.state)
    if what is not None:
        tracked.link.send(what.messages)
        answer = tracked.link.until_ready(what.readies)
        assert wire.sqlstate(answer) is None

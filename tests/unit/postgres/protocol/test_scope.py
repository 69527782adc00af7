"""Scopes and layers: what a rollback undoes, and what the server's truth corrects."""

from proxy.postgres.protocol.fingerprint import Fingerprint
from proxy.postgres.protocol.scope import (
    EMPTY,
    SAVEPOINTS_MAX,
    Layers,
    Scope,
    Setting,
    corrected,
)


def with_x(value: bytes) -> Scope:
    return EMPTY.with_setting(b"x", Setting(value))


def test_settings_keep_the_order_they_were_last_set_in() -> None:
    scope = EMPTY.with_setting(b"a", Setting(b"1")).with_setting(b"b", Setting(b"2"))
    again = scope.with_setting(b"a", Setting(b"3"))
    assert list(again.settings) == [b"b", b"a"]
    assert list(scope.settings) == [b"a", b"b"]
    assert scope.size == 4


def test_the_same_value_again_changes_nothing() -> None:
    scope = EMPTY.with_setting(b"a", Setting(b"1", seen=True))
    assert scope.with_setting(b"a", Setting(b"1", b"SET a = 1")) is scope
    text = EMPTY.with_setting(b"a", Setting(None, b"SET a = x"))
    assert text.with_setting(b"a", Setting(None, b"SET a = x")) is not text


def test_without_what_is_not_there_is_the_same_scope() -> None:
    scope = with_x(b"1")
    assert scope.without(b"y", b"z") is scope
    assert scope.without(b"x", b"y") == EMPTY


def test_date_styles_are_set_over_each_other() -> None:
    scope = EMPTY.with_setting(b"datestyle", Setting(b"ISO, DMY"))
    assert scope.with_setting(b"datestyle", Setting(b"SQL")).settings[b"datestyle"].value == (
        b"sql, dmy"
    )
    text_only = scope.with_setting(b"datestyle", Setting(None, b"SET datestyle = x"))
    assert text_only.settings[b"datestyle"].value is None


def test_a_setting_is_known_by_value_or_text() -> None:
    assert Setting(b"").known
    assert Setting(None, b"SET x = 1").known
    assert not Setting(None).known
    assert Setting(b"secret-value", b"SET x = 'secret-value'").size == 34
    assert "secret" not in repr(Setting(b"secret-value", b"secret-text"))


def test_rollback_and_commit() -> None:
    layers = Layers()
    layers.current = with_x(b"1")
    layers.rollback()
    assert layers.current is EMPTY
    layers.current = with_x(b"2")
    layers.commit()
    layers.rollback()
    assert layers.current == with_x(b"2")
    layers.explicit = True
    layers.commit(chain=True)
    assert layers.explicit
    layers.rollback()
    assert not layers.explicit


def test_savepoints() -> None:
    layers = Layers()
    layers.savepoint("a")
    layers.current = with_x(b"1")
    layers.savepoint("b")
    layers.current = with_x(b"2")
    layers.savepoint("a")
    layers.current = with_x(b"3")
    layers.rollback_to("a")
    assert layers.current == with_x(b"2")
    layers.release("a")
    layers.rollback_to("a")
    assert layers.current is EMPTY
    layers.rollback_to("b")  # gone with the rollback to what was below it
    assert layers.current is EMPTY
    layers.rollback_to("a")  # stays after a rollback to it
    assert layers.current is EMPTY


def test_release_takes_those_above_along() -> None:
    layers = Layers()
    layers.savepoint("a")
    layers.savepoint("b")
    layers.current = with_x(b"1")
    layers.release("a")
    layers.rollback_to("b")
    assert layers.current == with_x(b"1")


def test_savepoints_are_bounded() -> None:
    layers = Layers()
    for _ in range(SAVEPOINTS_MAX + 5):
        layers.savepoint("a")
    assert len(layers._savepoints) == SAVEPOINTS_MAX


def test_changes_that_no_rollback_undoes() -> None:
    layers = Layers()
    layers.base = layers.current = Scope(temp=True)
    layers.savepoint("a")
    layers.everywhere(lambda scope: Scope(scope.settings))
    layers.rollback_to("a")
    assert layers.current == EMPTY
    assert layers.base == EMPTY


def test_the_server_agrees() -> None:
    scope = Scope({b"work_mem": Setting(b"10240", seen=True)}, (b"b", b"a"))
    found = Fingerprint(settings={b"work_mem": b"10240"}, channels=frozenset((b"a", b"b")))
    assert corrected(scope, found) is scope


def test_the_server_knows_better() -> None:
    scope = Scope(
        {
            b"work_mem": Setting(b"10MB"),
            b"jit": Setting(b"off", seen=True),
            b"hidden": Setting(b"1"),
            b"app.x": Setting(b"old"),
            b"app.gone": Setting(None),
            b"geqo": Setting(None),
            b"role": Setting(b"a"),
        },
        (b"a", b"b"),
        temp=True,
        cursors=frozenset((b"c",)),
        pins=frozenset(("pin",)),
    )
    found = Fingerprint(
        settings={b"work_mem": b"10240", b"lock_timeout": b"5"},
        custom={b"app.x": b"new", b"app.gone": None},
        channels=frozenset((b"b", b"d")),
        role=b"none",
    )
    assert corrected(scope, found) == Scope(
        {
            b"work_mem": Setting(b"10240", seen=True),
            b"hidden": Setting(b"1"),
            b"app.x": Setting(b"new"),
            b"lock_timeout": Setting(b"5", seen=True),
        },
        (b"b", b"d"),
        pins=frozenset(("pin",)),
    )


def test_role_and_session_authorization_are_learnt() -> None:
    scope = Scope({b"session_authorization": Setting(b"A")})
    found = Fingerprint(role=b"boss", session_user=b"a")
    assert corrected(scope, found).settings == {
        b"session_authorization": Setting(b"a"),
        b"role": Setting(b"boss"),
    }
    assert corrected(EMPTY, Fingerprint(session_user=b"a")) is EMPTY


def test_a_role_that_is_still_the_same_stays() -> None:
    scope = Scope({b"role": Setting(b"boss")})
    assert corrected(scope, Fingerprint(role=b"boss")) is scope


def test_a_name_the_server_does_not_know_but_shows_stays() -> None:
    scope = Scope({b"a.b": Setting(b"1", seen=True)})
    found = Fingerprint(settings={b"a.b": b"1"}, custom={b"a.b": None})
    assert corrected(scope, found) is scope


def test_a_setting_asked_for_by_name_and_shown_takes_the_form_it_is_shown_in() -> None:
    scope = Scope({b"auto_explain.log_min_duration": Setting(b"1000")})
    found = Fingerprint(
        settings={b"auto_explain.log_min_duration": b"1000"},
        custom={b"auto_explain.log_min_duration": b"1s"},
    )
    assert corrected(scope, found).settings == {
        b"auto_explain.log_min_duration": Setting(b"1000", seen=True)
    }

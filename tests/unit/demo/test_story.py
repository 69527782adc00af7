"""The words of the demo: counts are the scene's, and nothing is claimed that was not seen."""

from proxy.demo import story
from proxy.demo.play import Scene
from tests.unit.demo.scenes import scene, settle


def plain(text: str, _colour: str) -> str:
    return text


def marked(text: str, colour: str) -> str:
    return f"<{colour}>{text}</>"


def text_of(made: Scene, problems: list[str]) -> str:
    return "\n".join(story.result(made, problems, plain))


def test_one_line() -> None:
    assert story.one_line(scene()) == (
        "  10 s  direct: 5 errors, through Backstay: 0  (400 statements, 3 strikes, 24 links cut, "
        "1 run again, longest wait 0.0 s)"
    )


def test_panel_has_the_same_height_each_time() -> None:
    early, late = scene(), scene()
    early.striker.last = ""
    early.direct.tally.errors.clear()
    late.through.tally.failed("x", "")
    assert len(story.panel(early, plain)) == len(story.panel(late, plain))
    assert "direct: 5 errors, through Backstay: 1" in story.panel(late, plain)[0]
    assert "last: reset" in story.panel(late, plain)[1]


def test_introduction_says_what_to_try() -> None:
    made = scene()
    text = "\n".join(story.introduction(made, plain))
    assert "psql 'postgresql://app@127.0.0.1:6432/app'" in text
    assert "/nowhere/backstay.log" in text
    assert "dashboard" not in text
    assert "Ctrl-C" not in text
    made = scene(seconds=None)
    made.dashboard = "http://127.0.0.1:9127/"
    text = "\n".join(story.introduction(made, plain))
    assert "http://127.0.0.1:9127/" in text
    assert "Ctrl-C ends it." in text


def test_a_good_end() -> None:
    text = text_of(scene(), [])
    assert text.endswith("direct: 5 errors, through Backstay: 0")
    assert "reset 2, server restart 1" in text
    assert "What is spared" in text
    assert "2 writes acknowledged, 0 lost, 0 doubled." in text
    assert "5 times: SSL connection has been closed unexpectedly" in text


def test_a_bad_end() -> None:
    made = scene()
    settle(made, (1, 1))
    text = text_of(made, ["1 writes acknowledged and not stored"])
    assert "1 lost" in text
    assert text.endswith("FAILED: 1 writes acknowledged and not stored")
    assert "through Backstay: 0" not in text.splitlines()[-1]


def test_honest_errors_are_counted() -> None:
    made = scene(anywhere=True)
    made.through.tally.failed("transaction rolled back", "40001")
    text = text_of(made, [])
    assert text.endswith("direct: 5 errors, through Backstay: 1, each of which said what is true")
    assert "Strikes came anywhere" in text


def test_skipped_strikes_are_said() -> None:
    made = scene()
    made.striker.skipped.append("reset: TimeoutError")
    assert "Skipped: reset: TimeoutError." in text_of(made, [])


def test_unknown_outcomes_are_said() -> None:
    made = scene()
    made.direct.tally.unsure.add(2_000)
    settle(made)
    assert "1 of unknown outcome (0 stored)" in text_of(made, [])


def test_colours_only_where_they_mean_something() -> None:
    made = scene()
    rows = story.panel(made, marked)
    assert f"<{story.RED}>" in rows[3]
    assert f"<{story.GREEN}>" in rows[4]
    made.direct.tally.errors.clear()
    assert f"<{story.RED}>" not in story.panel(made, marked)[3]
    made.through.tally.failed("x", "")
    assert f"<{story.RED}>" in story.panel(made, marked)[4]


def test_the_redis_half() -> None:
    made = scene()
    made.cache.direct.tally.errors = 2
    through = made.cache.through.tally
    through.reads, through.upstream_reads, through.requests = 280, 20, 10
    through.request_s.append(0.075)
    rows = story.panel(made, marked)
    assert f"<{story.RED}>       2</>" in rows[-2]
    assert rows[-1].split() == [
        *("through", "Backstay", f"<{story.GREEN}>", "0</>", "10", "280", "20"),
        *("75", "ms", "0.00", "ms"),
    ]
    assert "Redis" in text_of(made, [])
    assert "  redis-cli -p 6380 get user:1" in story.introduction(made, plain)


def test_nothing_live_is_wider_than_a_terminal() -> None:
    made = scene()
    made.striker.last = "terminate in a write"
    for tally in (made.cache.direct.tally, made.cache.through.tally):
        tally.reads = tally.upstream_reads = 1_000_000
        tally.request_s.append(9.0)
    assert max(map(len, story.panel(made, plain))) < 80

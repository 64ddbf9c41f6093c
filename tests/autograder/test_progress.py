"""What a long run says of itself: on a terminal, and in a log."""

from __future__ import annotations

import io

import pytest

from autograder.progress import Bar, Progress, duration


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_log_gets_a_plain_line_now_and_then(clock: Clock) -> None:
    log = io.StringIO()
    bar = Bar(log, clock)
    for second in range(26):
        clock.now = second
        bar.show(Progress(50, second, second, problems=second // 10))
    bar.close()
    assert log.getvalue().splitlines() == [
        "10 of 50, 1.0 a second, 1 problem, 40 s left",
        "20 of 50, 1.0 a second, 2 problems, 30 s left",
    ]


def test_a_terminal_gets_one_line_that_is_wiped_in_the_end(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    screen = Screen()
    bar = Bar(screen, clock)
    for step in range(200):
        clock.now = step / 100
        bar.show(Progress(4, min(4, step // 50), min(4, step // 50), note="2 workers, and a note that is far too long"))
    bar.line(lambda: screen.write("ada\n"))
    drawn = screen.getvalue()
    assert "\n" not in drawn.removesuffix("ada\n") and drawn.endswith("\r\x1b[Kada\n")
    lines = drawn.split("\r\x1b[K")
    assert 15 < len(lines) < 25 and max(map(len, lines)) < 60
    assert "[==================      ] 3 of 4, 1." in drawn and "; 2 wor" in drawn


def test_the_rate_is_of_what_was_made_now_and_lately(clock: Clock) -> None:
    log = io.StringIO()
    bar = Bar(log, clock)
    bar.show(Progress(1000, 900))
    for made in range(1, 61):
        clock.now = 60 * made
        bar.show(Progress(1000, 900 + made, made))
    assert log.getvalue().splitlines()[-1] == "960 of 1000, 1.0 a minute, 40 min 0 s left"


def test_time_before_the_first_is_begun_does_not_count(clock: Clock) -> None:
    log = io.StringIO()
    bar = Bar(log, clock)
    for second in range(0, 31):
        clock.now = second
        bar.show(Progress(100, max(0, second - 20), max(0, second - 20), begun=second > 20))
    assert log.getvalue().splitlines()[-1] == "10 of 100, 1.0 a second, 1 min 30 s left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text

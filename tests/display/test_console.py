"""What reaches a terminal, and what a log file."""

import io
import time

import pytest
import rich.console

from imgcls_jax.display import console as display
from imgcls_jax.display.console import Console, clock, duration


@pytest.fixture
def shown(monkeypatch):
    """Make a console that writes into a text, and give both."""

    def make(*, terminal: bool, width: int = 80):
        text = io.StringIO()
        console = Console()
        console._rich = rich.console.Console(
            file=text, force_terminal=terminal, width=width, highlight=False, soft_wrap=True, legacy_windows=False
        )
        return console, text

    monkeypatch.setattr(display, "_PATIENCE", 0.05)
    return make


def test_lines_are_not_wrapped_and_markup_is_text(shown):
    console, text = shown(terminal=False)
    console.line("[bold] " + "x" * 200)
    assert text.getvalue() == "[bold] " + "x" * 200 + "\n"


def test_color_is_for_terminals_only(shown):
    for terminal in (True, False):
        console, text = shown(terminal=terminal)
        console.line("best", style="green")
        assert ("\x1b[32m" in text.getvalue()) == terminal


def test_a_table_fits_and_a_command_is_whole(shown):
    console, text = shown(terminal=False, width=60)
    console.table("run", {"memory": "about 8.7 MiB of 23.5 GiB per device (parameters 1 KiB, optimizer 2 KiB)", "n": 3})
    assert max(map(len, text.getvalue().splitlines())) < 60
    command = "imgcls train --config " + "x" * 100
    console.command("continue with", command)
    assert f"continue with:\n  {command}\n" in text.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_short_wait_shows_nothing(shown, terminal):
    console, text = shown(terminal=terminal)
    with console.wait("compiling") as wait:
        wait.update(1)
    time.sleep(0.1)
    assert text.getvalue() == ""


def test_a_long_wait_is_a_bar_on_a_terminal(shown):
    console, text = shown(terminal=True)
    with console.wait("compiling") as wait:
        time.sleep(0.2)
        wait.on_progress("decoding", 3, 1200)
        time.sleep(0.2)
    assert "compiling" in text.getvalue()
    assert "decoding" in text.getvalue()
    assert "3/1,200" in text.getvalue()


def test_a_long_wait_is_a_line_elsewhere(shown, monkeypatch):
    monkeypatch.setattr(display, "_PLAIN_INTERVAL", 0.0)
    console, text = shown(terminal=False)
    with console.wait("reading", total=9) as wait:
        time.sleep(0.2)
        wait.update(3)
    assert text.getvalue() == "reading … 0/9\nreading … 3/9\n"


def test_an_error_ends_a_wait(shown):
    console, text = shown(terminal=True)

    def fail():
        with console.wait("compiling"):
            time.sleep(0.2)
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    before = text.getvalue()
    time.sleep(0.3)
    assert text.getvalue() == before


def test_progress_of_an_epoch_fits(shown):
    console, text = shown(terminal=True)
    with console.progress(99, 1000, 0, 12_345) as update:
        update(12_000, lambda: "loss 0.123 acc 55.1 % 12,345 img/s 10:20 left")
    assert "12000/12345 loss 0.123 acc 55.1 % 12,345 img/s 10:20 left" in text.getvalue()


def test_a_silent_console_prints_nothing(capsys):
    console = Console(silent=True)
    console.line("x")
    console.table("x", {"y": "z"})
    with console.wait("x"), console.progress(0, 1, 0, 1):
        pass
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (0.04, "0.0 s", "0.0 s"),
        (12.34, "12.3 s", "12.3 s"),
        (59.97, "60.0 s", "1:00"),
        (200, "3 min 20 s", "3:20"),
        (3723, "1 h 02 min", "1:02:03"),
        (36_000, "10 h 00 min", "10 h"),
        (432_000, "120 h 00 min", "120 h"),
    ],
)
def test_times(seconds, long, short):
    assert (duration(seconds), clock(seconds)) == (long, short)
    assert len(clock(seconds)) <= 7

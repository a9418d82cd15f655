"""Standings that several processes keep in one file."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.strangler import plan
from gateway.strangler.book import Book, BookError
from gateway.strangler.plan import Mode, Standing


def opened(path: Path | None) -> Book:
    book = Book(path)
    book.open()
    return book


async def test_what_one_process_changes_another_finds_and_a_restart_too(tmp_path: Path) -> None:
    one, two = opened(tmp_path / "s"), opened(tmp_path / "s")
    one.change("products", Standing(10, 1.5, revision=1))
    assert one.standings["products"].percent == 10  # in force here at once
    await one.refresh()

    assert await two.refresh()
    assert not await two.refresh()
    assert opened(tmp_path / "s").standings == two.standings == one.standings


async def test_of_two_changes_at_the_same_time_the_first_in_the_file_stands(
    tmp_path: Path,
) -> None:
    one, two = opened(tmp_path / "s"), opened(tmp_path / "s")
    before = Standing(10, 0)
    for book in (one, two):
        book.standings["products"] = before
    one.change("products", plan.abort((), before, 1, "errors", back=False))
    two.change("products", plan.hold(before, 50, 1))
    await one.refresh()
    await two.refresh()
    await one.refresh()

    assert one.standings == two.standings
    assert two.standings["products"].mode is Mode.ABORTED


async def test_a_file_that_cannot_be_kept_changes_nothing_here_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "gateway")
    book = opened(tmp_path / "s")
    (tmp_path / "s").write_text("{}")
    await book.refresh()
    (tmp_path / "s").write_text("no json")
    book.change("products", Standing(0, 1, Mode.ABORTED, "errors", revision=4))
    for _ in range(3):
        await book.refresh()
    assert (book.standings["products"].percent, book.settled) == (0, False)
    assert len(caplog.records) == 1

    (tmp_path / "s").write_text("{}")
    await book.refresh()

    assert book.settled
    assert opened(tmp_path / "s").standings == book.standings


@pytest.mark.parametrize("text", ["no json", '{"a": {"percent": 1000, "since": 0}}', "[]"])
def test_a_state_that_makes_no_sense_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "s").write_text(text)

    with pytest.raises(BookError, match=str(tmp_path / "s")):
        opened(tmp_path / "s")


def test_a_directory_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="No such file or directory"):
        opened(tmp_path / "nowhere" / "s")


async def test_whoever_is_stopped_while_writing_stops_nobody(tmp_path: Path) -> None:
    book = opened(tmp_path / "s")
    with (tmp_path / "s.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        book.change("products", Standing(1, 0, revision=1))
        await asyncio.wait_for(book.refresh(), 10)
        assert not book.settled
    await book.refresh()

    assert book.settled


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from gateway.strangler.book import Book
from gateway.strangler.plan import Standing
async def main():
    book = Book(Path(sys.argv[1])); book.open()
    for number in range(20):
        book.change(f"{sys.argv[2]}-{number}", Standing(1, 0, revision=1))
        while not book.settled:
            await book.refresh()
asyncio.run(main())
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "s"), str(number)])
        for number in range(3)
    ]
    assert [each.wait(60) for each in running] == [0, 0, 0]

    assert len(opened(tmp_path / "s").standings) == 60


async def test_without_a_file_everything_stays_in_this_process() -> None:
    book = opened(None)
    book.change("products", Standing(1, 0, revision=1))

    assert not await book.refresh()
    assert book.settled

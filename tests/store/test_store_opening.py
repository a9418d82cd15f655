"""Whatever is wrong with a database is said when it is opened, in one line that names it."""

import asyncio
import re
import sqlite3
from pathlib import Path

import pytest

from mesh.store import StoreError, connect, migrations
from mesh.store.migrate import statements


async def opened(path: Path) -> None:
    async with connect(f"sqlite:///{path}"):
        pass


@pytest.mark.parametrize(
    "url",
    [
        "",
        "orders.db",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "mysql:///x",
        "sqlite:///x/",
    ],
)
def test_a_url_that_names_no_file_is_refused_by_its_name(url: str) -> None:
    with pytest.raises(StoreError, match="expected sqlite:///path/to/file") as caught:
        connect(url)
    assert repr(url) in str(caught.value)


async def test_missing_directories_are_made(tmp_path: Path) -> None:
    path = tmp_path / "state" / "deep" / "orders.db"
    await opened(path)
    assert path.is_file()


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    path = tmp_path / "file" / "orders.db"
    with pytest.raises(StoreError, match="cannot make its directory") as caught:
        await opened(path)
    assert caught.value.path == str(path)


async def test_a_directory_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a directory"):
        await opened(tmp_path)


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("once upon a time there was no database here" * 100)
    with pytest.raises(StoreError, match="file is not a database") as caught:
        await opened(path)
    assert str(caught.value).startswith(f"{path}: ")


async def filled(path: Path) -> None:
    async with connect(f"sqlite:///{path}") as database:
        await database.migrate("list", ["create table list (item text primary key)"])
        for letter in "abc":
            await database.transaction(
                lambda tx, letter=letter: tx.execute("insert into list values ($1)", letter * 9000)
            )


async def test_a_file_with_damaged_pages_is_refused(path: Path) -> None:
    await filled(path)
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 4] = b"\xff" * 8192
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"corrupt|malformed"):
        await opened(path)


async def test_a_file_that_was_cut_off_is_refused(path: Path) -> None:
    await filled(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StoreError, match=r"corrupt|malformed"):
        await opened(path)


async def test_a_file_opens_again_after_a_failed_opening(path: Path) -> None:
    path.write_text("no database" * 100)
    with pytest.raises(StoreError):
        await opened(path)
    path.unlink()
    await opened(path)


async def test_many_databases_may_open_a_new_one_at_once(url: str) -> None:
    async def open_and_migrate() -> None:
        async with connect(url) as database:
            await database.migrate("list", ["create table list (item text)"])

    await asyncio.gather(*(open_and_migrate() for _ in range(8)))


async def test_each_migration_is_applied_once(path: Path) -> None:
    first = "create table a (x); insert into a values (';'); -- a ; here\n"
    second = """
        create trigger t after insert on a begin
            update a set x = 'seen;' where x = 'new';
            delete from a where x = 'never';
        end;
        insert into a values ('new')
    """
    for known in ([first], [first], [first, second], [first, second]):
        async with connect(f"sqlite:///{path}") as database:
            await database.migrate("letters", known)
            await database.migrate("other", ["create table if not exists b (x)"])
    with sqlite3.connect(path) as connection:
        rows = connection.execute("select x from a").fetchall()
    connection.close()
    assert rows == [(";",), ("seen;",)]


async def test_a_failing_migration_leaves_nothing_behind(url: str) -> None:
    async with connect(url) as database:
        with pytest.raises(StoreError, match="syntax error"):
            await database.migrate(
                "a", ["create table a (x text)", "create table nonsense nonsense"]
            )
        await database.migrate("a", ["create table a (x text)"])


async def test_a_database_that_is_newer_than_the_code_is_refused(url: str) -> None:
    async with connect(url) as database:
        await database.migrate("a", ["create table a (x text)", "create table b (x text)"])
        with pytest.raises(StoreError, match="a is at version 2, this program knows 1"):
            await database.migrate("a", ["create table a (x text)"])


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        (("0001_list.sql", "0003_more.sql"), "0003_more.sql: should be 0002_"),
        (("0001_list.sql", "0001_more.sql"), "0001_more.sql: should be 0002_"),
        (("0001_list.sql", "notes.txt"), "notes.txt: should be 0002_"),
        (("1_list.sql",), "1_list.sql: should be 0001_"),
    ],
)
def test_migrations_are_numbered_without_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], wrong: str
) -> None:
    package = f"numbered_{abs(hash(names))}"
    folder = tmp_path / package / "migrations"
    folder.mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    for name in names:
        (folder / name).write_text("select 1;")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(StoreError, match=re.escape(wrong)):
        migrations(package)


def test_each_component_of_ours_has_its_migrations() -> None:
    for package, component in (
        *(("mesh.events", name) for name in ("outbox", "inbox", "relay")),
        *(("mesh.saga", ""), ("mesh.server", ""), ("services.orders", "")),
    ):
        assert all(list(statements(script)) for script in migrations(package, component))

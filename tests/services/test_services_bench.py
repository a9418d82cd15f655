"""What scripts/bench_orders says of what it measured."""

from scripts.bench_orders import Block, report


def blocks(one: float, many: float, commits: tuple[float, float] = (0.0, 0.0)) -> dict:
    cpu = {"orders": 20.0, "postgresql": 10.0}, {"orders": 7.0, "postgresql": 3.0}
    return {1: [Block(one, commits[0], cpu[0])], 64: [Block(many, commits[1], cpu[1])]}


def test_the_report_compares_the_stands_and_says_what_commits_take(capsys) -> None:
    stands = {
        "sqlite disk": blocks(30.0, 90.0),
        "sqlite memory": blocks(40.0, 100.0),
        "postgresql slow": blocks(10.0, 80.0, (9.0, 2.0)),
    }
    alone = {
        "sqlite disk": {
            "sagas": {
                "one_by_one": {"rate": 20.0, "commits": 4.0},
                "at_once": {"rate": 300.0, "commits": 0.1},
            }
        }
    }

    said = report(stands, 64, alone)

    printed = capsys.readouterr().out
    assert said["sqlite disk"]["times"] == 3.0
    assert [round(share, 3) for share in said["sqlite disk"]["share_of_commits"]] == [0.25, 0.1]
    assert "share of commits, sqlite disk: 25% and 10%" in printed
    assert said["sqlite disk"]["cpu_milliseconds"][1] == {"orders": 7.0, "postgresql": 3.0}
    assert (
        "CPU ms an order, sqlite disk: 30.0 -> 10.0 (orders 20.0 -> 7.0, postgresql 10.0 -> 3.0)"
        in printed
    )
    assert "15.0 times; 4.00 -> 0.100 commits each" in printed
    # Commits are counted where strace sees them.
    assert said["postgresql slow"]["commits"] == [9.0, 2.0]
    assert "9.00 -> 2.00" in printed
    assert "commits" not in said["sqlite disk"]
    # Without its own stand in memory nothing is known of its commits' share.
    assert "share_of_commits" not in said["postgresql slow"]

"""What scripts/bench_orders says of what it measured."""

from scripts.bench_orders import Stand, report


def stand(name: str, one: float, many: float) -> Stand:
    return Stand(name, None, [], rates={1: [one], 64: [many]}, costs={1: [30.0], 64: [10.0]})


def test_the_report_compares_the_stands_and_says_what_commits_take(capsys) -> None:
    stands = {
        each.name: each
        for each in (
            stand("sqlite disk", 30.0, 90.0),
            stand("sqlite memory", 40.0, 100.0),
            stand("postgresql disk", 10.0, 80.0),
        )
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
    assert said["sqlite disk"]["cpu_milliseconds"] == [30.0, 10.0]
    assert [round(share, 3) for share in said["sqlite disk"]["share_of_commits"]] == [0.25, 0.1]
    assert "share of commits, sqlite disk: 25% and 10%" in printed
    assert "15.0 times; 4.00 -> 0.100 commits each" in printed
    # Without its own stand in memory nothing is known of its commits.
    assert "share_of_commits" not in said["postgresql disk"]

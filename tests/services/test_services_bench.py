"""What scripts/bench_orders says of what it measured."""

from scripts.bench_orders import Stand, report


def stand(name: str, one: float, many: float) -> Stand:
    return Stand(name, None, [], rates={1: [one], 64: [many]}, costs={1: [30.0], 64: [10.0]})


def test_the_report_compares_the_stands_and_says_what_commits_take(capsys) -> None:
    stands = {"disk": stand("disk", 30.0, 90.0), "memory": stand("memory", 40.0, 100.0)}

    said = report(stands, 64)

    assert said["disk"]["times"] == 3.0
    assert said["cpu_milliseconds"] == {"one_by_one": 30.0, "at_once": 10.0}
    assert [round(share, 3) for share in said["disk"]["share_of_commits"]] == [0.25, 0.1]
    assert "share of commits, disk: 25% and 10%" in capsys.readouterr().out

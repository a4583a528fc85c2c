"""The arithmetic of the benchmark: what decides, and what is kept. Nothing here is measured."""

import json
from xml.etree import ElementTree

from benchmarks import plot, reporting
from benchmarks.measuring import Cost, in_turns
from benchmarks.reporting import Bound, Row, bounded, compared
from benchmarks.run import CHECKOUT, PARTS


def walls(*seconds):
    return [Cost(wall=one, own=one / 2, database=one / 4) for one in seconds]


def test_a_ratio_is_the_median_of_the_rounds_and_decides():
    ours, theirs = walls(2.0, 3.0, 8.0), walls(2.0, 2.0, 4.0)

    row = compared("rows", ours, theirs, most=1.5, units=1_000, detail={"peak MB": 80.0})

    assert (row.ratio, row.spread, row.target, row.met) == (1.5, (1.0, 2.0), 1.5, True)
    assert not compared("rows", ours, theirs, most=1.49, units=1_000).met
    # The median round took 3 seconds, of them 1.5 of our CPU and 0.75 of PostgreSQL's.
    assert (row.rate, row.cpu_ms) == (1_000 / 3, 2.25)
    assert row.detail == {"their rate": 500.0, "peak MB": 80.0, "database cpu ms": 0.75}


def test_a_ratio_can_be_one_of_cpu():
    ours, theirs = [Cost(wall=1, own=6, database=6)], [Cost(wall=4, own=2, database=4)]

    assert [compared("x", ours, theirs, most=1, units=1, by=by).ratio for by in ("wall", "own", "cpu")] == [0.25, 3, 2]


def test_a_bound_is_judged_by_the_median():
    costs = walls(1.0)

    row = bounded("lists", [149.0, 900.0, 10.0], Bound("<", 150, "ms"), costs=costs, units=10)

    assert (row.ratio, row.target, row.spread, row.met) == (None, "< 150 ms", (10.0, 900.0), True)
    assert row.detail["ms"] == 149.0
    verdicts = {bound: bounded("x", [150.0], Bound(bound, 150, "ms"), costs=costs, units=1).met for bound in "<≤≥"}
    assert verdicts == {"<": False, "≤": True, "≥": True}
    assert str(Bound("≥", 5_000, "steps/s")) == "≥ 5,000 steps/s"


def test_who_began_a_round_comes_last_in_the_next():
    begun = []

    def act(name):
        begun.append(name)
        return Cost(wall=len(begun), own=0)

    ours, theirs = in_turns(3, lambda: act("ours"), lambda: act("theirs"))

    assert begun == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert [cost.wall for cost in ours] == [1, 4, 5]
    assert [cost.wall for cost in theirs] == [2, 3, 6]


def run(*parts, cores=2, commit="new"):
    rows = [reporting.rounded(Row("x", 1.23456, 2, 1, 1, (1.0, 1.5), met=True))]
    kept = {part: {"commit": commit, "rows": rows} for part in parts}
    return {"machine": {"cores": cores}, "versions": {"Python": "3"}, "commit": commit, "parts": kept}


def test_a_run_of_some_parts_keeps_the_others(tmp_path):
    results = tmp_path / "results" / "latest.json"

    reporting.write(results, run("launch", "import", commit="old"))
    reporting.write(results, run("import"))

    kept = json.loads(results.read_text())
    assert (kept["commit"], {name: part["commit"] for name, part in kept["parts"].items()}) == (
        "new",
        {"launch": "old", "import": "new"},
    )
    assert kept["parts"]["import"]["rows"] == [
        {
            "name": "x",
            "ratio": 1.235,
            "target": 2,
            "rate": 1,
            "cpu_ms": 1,
            "spread": [1.0, 1.5],
            "met": True,
            "detail": {},
        }
    ]


def test_figures_of_another_machine_are_not_kept_beside_new_ones():
    assert list(reporting.merged(run("launch", cores=2), run("import", cores=4))["parts"]) == ["import"]


def test_every_part_has_its_module_and_stands_in_the_readme():
    folder = CHECKOUT / "benchmarks"
    modules = {path.stem for path in (folder / "parts").glob("*.py")} - {"__init__"}
    readme = (folder / "README.md").read_text(encoding="utf-8")

    assert {part.module for part in PARTS.values()} == modules
    assert [name for name in PARTS if f"| `{name}` |" not in readme] == []


def test_curves_are_drawn_within_their_panels():
    curves = {"claim": {10_000: 0.5, 100_000: 0.5, 1_000_000: 5.0}, "page": {10_000: 10.0}}

    svg = ElementTree.fromstring(plot.drawn({"CPU": curves, "time": curves}, below="messages"))  # noqa: S314

    assert (svg.get("width"), svg.get("height")) == ("720", "600")
    lines = [one.get("points") for one in svg.iter("{http://www.w3.org/2000/svg}polyline")]
    # Sizes 10⁴ to 10⁶ from the left to the right, values 0.1 to 10 from the bottom to the top.
    assert lines == ["60.0,176.6 295.0,176.6 530.0,71.6", "60.0,40.0"] * 2

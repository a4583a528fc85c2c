"""What Kaanha takes, measured against the least that would do the same, in the same run: see README.md.

A part is a module in `benchmarks/parts` with one function:

    def measure(scale: Scale) -> Iterator[Row]

It runs in a process of its own with Django set up on an empty, migrated database and a Redis, both its own, and yields
a row as soon as it has one. What it measures with: `measuring.cost(act)` for the time and the CPU of an act,
`measuring.in_turns(rounds, ours, theirs)` for several rounds of both, `reporting.compared(…)` for a row that a ratio
decides and `reporting.bounded(…)` for one that a bound decides. A part imports the apps at its top, for it is imported
when Django is set up. `run.PARTS` names all parts in the order in which they run, with the variables of the environment
that a part needs set before the settings are read.
"""

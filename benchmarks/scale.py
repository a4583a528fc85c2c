"""How much of everything a run has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Rows, and how often each comparison is made."""

    sends: int
    contacts: int
    messages: int
    people: int  # where each of them takes its time: imported, enrolled
    rounds: int = 3

    @property
    def sizes(self) -> list[int]:
        """A hundredth, a tenth and all of the contacts, for what is told at several sizes."""
        return [self.contacts // 100, self.contacts // 10, self.contacts]


SIZES = (10_000, 100_000, 1_000_000)  # what curves are drawn over
SCALES = {
    # To see that a part works; its figures mean nothing.
    "tiny": Scale(sends=1_000, contacts=10_000, messages=20_000, people=10_000, rounds=2),
    "usual": Scale(sends=100_000, contacts=1_000_000, messages=2_000_000, people=200_000),
    "full": Scale(sends=1_000_000, contacts=1_000_000, messages=10_000_000, people=1_000_000),
    # For curves: as few rounds as a part makes.
    **{f"{size:,}": Scale(sends=size, contacts=size, messages=size, people=size, rounds=1) for size in SIZES},
}
KEPT = ("usual", "full")  # what results/latest.json tells of

"""Write shoppers.csv and purchases.csv beside this file: made-up people who filled a cart, and those who then bought.

    python docs/samples/make_shoppers.py

Nobody is meant by them. The numbers are kept for film and fiction (Ofcom: +44 7700 900000 to 900999; Arcep: +33 6 39 98
0000 to 9999), and none of them is in contacts.csv. Most end in digits that the simulated WhatsApp gives no part to
play; a few are its test cards. One person has opted out. The same seed gives the same files.
"""

from __future__ import annotations

import csv
import random
import re
import sys
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path

SEED = 20260201
SHOPPERS = 60  # who behave as people do
ORDINARY = range(26)  # endings without a part to play
# Not on WhatsApp · enough marketing, twice · stops marketing · the answer never comes · sends STOP · lost after sending
CARDS = ("26", "49", "49", "84", "78", "80", "31")
GIVEN = "Amelia Noah Isla Rhys Siân Tom Grace Zoë Léa Hugo Manon Théo Chloé Loïc Aïcha Gaël"
FAMILY = "Sample Muster Exemple Example"

FOLDER = Path(__file__).parent


def make() -> dict[str, str]:
    """Both files, by name. Every second shopper buys."""
    chance = random.Random(SEED)  # noqa: S311 — sample data
    free = list(_free(chance))
    ordinary = [number for number in free if int(number[-2:]) in ORDINARY]
    numbers = [*ordinary[:SHOPPERS], *_cards(free)]
    shoppers = [[number, _name(chance), "cart", "true"] for number in numbers]
    shoppers[0][1] = ""  # greeted without a name
    left_out = [ordinary[SHOPPERS], _name(chance), "cart", "false"]
    orders = [[number, "purchased", f"C-{2_000 + place}"] for place, number in enumerate(numbers[::2])]
    return {
        "shoppers.csv": _written([["phone", "name", "tags", "optedIn"], *shoppers, left_out]),
        "purchases.csv": _written([["phone", "tags", "order_number"], *orders]),
    }


def _free(chance: random.Random) -> Iterator[str]:
    """Numbers that contacts.csv doesn't have, in any order."""
    taken = {_digits(line.split(",")[0]) for line in (FOLDER / "contacts.csv").read_text("utf-8").splitlines()}
    every = [f"+447700900{n:03}" for n in range(1_000)] + [f"+3363998{n:04}" for n in range(0, 10_000, 7)]
    return (number for number in chance.sample(every, len(every)) if _digits(number) not in taken)


def _digits(written: str) -> str:
    return re.sub("[^0-9]", "", written.replace("(0)", "")).removeprefix("00")


def _cards(free: Iterable[str]) -> Iterator[str]:
    """A number for each card, no number twice."""
    left = list(free)
    for ending in CARDS:
        number = next(number for number in left if number.endswith(ending))
        left.remove(number)
        yield number


def _name(chance: random.Random) -> str:
    return f"{chance.choice(GIVEN.split())} {chance.choice(FAMILY.split())}"


def _written(rows: Iterable[list[str]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    for name, content in make().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
        sys.stdout.write(f"wrote {FOLDER / name}\n")

"""Trees of steps for tests: short to write, or made by chance."""

from datetime import time, timedelta
from random import Random

from sequences.trees import (
    EVERY_DAY,
    OPERATORS,
    STATUSES,
    WITHOUT_VALUE,
    Condition,
    Delay,
    Field,
    HasTag,
    Message,
    Reached,
    Until,
)


def message(key, template="tpl_sample", **rest):
    return Message(key, template, **rest)


def delay(key, **units):
    return Delay(key, span=timedelta(**(units or {"days": 1})))


def condition(key, test=None, **rest):
    return Condition(key, test or HasTag("tag_sample"), **rest)


class Chance:
    """Makes trees of every kind of step, up to three conditions deep, with new keys throughout."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.keys = 0

    def path(self, depth=0):
        return tuple(self.node(depth) for _ in range(self.random.randint(0, 4)))

    def node(self, depth):
        self.keys += 1
        key = f"s{self.keys}"
        match self.random.choice("mmddc" if depth < 3 else "md"):
            case "m":
                return self.message(key)
            case "d":
                return self.delay(key)
        wait = self.random.choice([None, timedelta(seconds=self.random.randint(1, 10**6))])
        yes, no = (self.random.choice([None, self.path(depth + 1)]) for _ in "yn")
        return Condition(key, self.test(), wait, yes, no)

    def message(self, key):
        template = self.random.choice(["tpl_a", "autumn_sale", "autumn_sale (en_US)"])
        mapping = self.random.choice([{"text": "x"}, {"field": "first_name", "fallback": ""}])
        return Message(
            key, template, {f"body.{self.random.randint(1, 3)}": mapping}, self.random.choice(["skip", "wait"])
        )

    def delay(self, key):
        if self.random.random() < 0.5:
            return Delay(
                key, span=self.random.randint(1, 100) * self.random.choice([timedelta(seconds=1), timedelta(days=1)])
            )
        days = self.random.choice([EVERY_DAY, frozenset(self.random.sample(range(7), self.random.randint(1, 6)))])
        clock = time(self.random.randrange(24), self.random.randrange(60))
        return Delay(key, until=Until(clock, days, self.random.choice([None, "Europe/Berlin"])))

    def test(self):
        op = self.random.choice(OPERATORS)
        field = Field("attributes.city", op, None if op in WITHOUT_VALUE else self.random.choice(["Pune", "", "30"]))
        return self.random.choice([HasTag("purchased"), Reached("s1", self.random.choice(STATUSES)), field])

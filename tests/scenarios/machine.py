"""A whole Kaanha on this machine, to be killed part by part: servers, processes and a simulated WhatsApp as witness.

    with Machine() as machine:
        broadcast = machine.launch(people=500)
        machine.kill("worker-send")
        machine.finish(broadcast)
        assert verdict.of(machine, broadcast).faults == []

What runs here is what an installation runs, under the same commands; only leases and timeouts are shorter.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import requests

from kaanha import embedded, processes, servers
from kaanha.processes import Child
from kaanha.tied import die_with_parent

HERE, THERE = "sample-store", "another-store"  # two organizations: one with two numbers, one with one
NUMBERS = {HERE: ("200000000000001", "200000000000002"), THERE: ("200000000000003",)}
WABAS = {HERE: "300000000000001", THERE: "300000000000009"}
SENDERS = ("worker-send", "worker-send2")
SHORTER = {
    "WHATSAPP_TIMEOUT_SECONDS": "5",
    "SEND_LEASE_SECONDS": "7",
    "CALLBACK_LEASE_SECONDS": "2",
    "SEQUENCE_MIN_DELAY_SECONDS": "1",
    "LOG_LEVEL": "WARNING",
}
CALM = {
    "cards": False,
    "speed": 10,
    "latency": [0.02, 0.08],
    "duplicate": 0,
    "reorder": 0,
    "early": 0,
    "batch": 100,
    "profile": {"read": 60, "delivered": 34, "readWithoutDelivered": 2, "sent": 3, "undeliverable": 1},
    "force": [],
}
# What a log says when nothing is wrong.
QUIET = re.compile(
    r" INFO |psycopg.pool |superuser privileges|not recommended|--uid option|User info|_warn_or_r|egid|^ *[-.*\[]"
)
PATIENCE = 60  # seconds
MARKETING = ("season_greetings", ())
UTILITY = ("order_update", ("1=contact.first_name|there", "2=your order"))


class OutOfPatienceError(Exception):
    """Something that should come by itself didn't; the text says what, and how the logs end."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A broadcast on its way, with the people whom it must reach or say why not."""

    id: int
    public_id: str
    organization: str
    people: frozenset[int]

    def __str__(self) -> str:
        return f"broadcast {self.id} to {len(self.people):,} people"


class Machine:
    """Everything an installation runs. Entering starts it; leaving stops it and removes all its data."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._audiences = itertools.count(1)
        self.parts: dict[str, Child] = {}
        self.kills = 0
        self.unplanned: list[str] = []  # parts that ended by themselves, as the supervisor saw it
        self.switches = CALM
        self.receives_from = 0  # the number of the simulator's last message before this scenario

    # --- starting and stopping -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="machine-")))
            started = stack.enter_context(servers.throwaway(in_memory=True))
            self.postgres, self.redis = started["DATABASE_URL"], started["REDIS_URL"]
            self._name_addresses()
            stack.callback(self._stop_parts)
            self._hand = self._start_hand()
            stack.callback(self._stop_hand)
            processes.manage("migrate", "--verbosity", "0", environment=self.environment)
            self._start_parts()
            self._connect()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _name_addresses(self) -> None:
        web, meta = embedded.free_port(), embedded.free_port()
        self.simulator = f"http://127.0.0.1:{meta}/simulator"
        self.environment = os.environ | SHORTER | {
            "DJANGO_SETTINGS_MODULE": "kaanha.settings",
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "PUBLIC_URL": f"http://127.0.0.1:{web}",
            "WHATSAPP_API_URL": f"http://127.0.0.1:{meta}/v25.0",
        }  # fmt: skip
        numbers = [word for each in (*NUMBERS[HERE], *NUMBERS[THERE]) for word in ("--phone-number-id", each)]
        self.programs = (
            processes.simulator(meta, "--no-cards", "--log", str(self.folder / "simulator.jsonl"), *numbers),
            processes.web(web, workers=1),
            *processes.workers(),
            processes.worker("send2", "send"),
            processes.beat(),
        )

    @property
    def programs_of_ours(self) -> tuple[str, ...]:
        """Every part but the simulator."""
        return tuple(name for name in self.parts if name != "simulator")

    def _start_parts(self) -> None:
        for program in self.programs:
            self.parts[program.name] = Child(program, self.folder / f"{program.name}.log", self.environment)
        self._born = dict.fromkeys(self.parts, 0)
        self.until(lambda: all(self.is_up(name) for name in self.parts), "every part is up")

    def _stop_parts(self) -> None:
        for child in self.parts.values():
            child.kill()

    def _start_hand(self) -> subprocess.Popen[str]:
        with (self.folder / "hand.log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.scenarios.acts"], env=self.environment, cwd=servers.CHECKOUT, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, preexec_fn=die_with_parent(signal.SIGKILL),
            )  # fmt: skip

    def _stop_hand(self) -> None:
        with self._hand:
            self._hand.kill()

    def _connect(self) -> None:
        for slug in (HERE, THERE):
            self.do("command", "create_organization", slug.replace("-", " ").title(), "--slug", slug)
            numbers = [word for each in NUMBERS[slug] for word in ("--phone-number-id", each)]
            # The simulator has one account: the second organization's is taken at its word.
            check = [] if slug == HERE else ["--no-check"]
            connected = self.do(
                "command", "connect_whatsapp", slug, "--waba-id", WABAS[slug], "--app-id", "400000000000001",
                "--app-secret", "sim_app_secret_0001", "--access-token", "sim-access-token", *numbers, *check,
            )  # fmt: skip
        subscription = {"callbackUrl": connected["callbackUrl"], "verifyToken": connected["verifyToken"]}
        self.tell("subscription", **subscription)
        self.do("command", "sync_templates", HERE)
        self.do("share_templates", HERE, THERE)

    # --- speaking with it ----------------------------------------------------------------------------------------

    def do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Let the operator's hand do one of the acts. Raises RuntimeError with what went wrong."""
        assert self._hand.stdin
        assert self._hand.stdout
        self._hand.stdin.write(json.dumps({"do": name, "args": args, "kwargs": kwargs}) + "\n")
        self._hand.stdin.flush()
        answer = json.loads(self._hand.stdout.readline() or '{"error": "the hand is gone"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["done"]

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What PostgreSQL answers to one statement, which is committed."""
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def value(self, sql: str, *values: Any) -> Any:
        return self.rows(sql, *values)[0][0]

    def ask(self, what: str, **query: Any) -> dict[str, Any]:
        """What the simulator says at one of its control addresses."""
        answer: dict[str, Any] = requests.get(f"{self.simulator}/{what}", params=query, timeout=60).json()
        return answer

    def tell(self, what: str, **body: Any) -> None:
        """Turn the simulator's switches or make it do something."""
        answer = requests.post(f"{self.simulator}/{what}", json=body, timeout=60)
        assert answer.ok, answer.text

    def received(self) -> list[dict[str, Any]]:
        """Every message that the simulator has accepted in this scenario, oldest first."""
        found: list[dict[str, Any]] = []
        after: int | None = self.receives_from
        while after is not None:
            page = self.ask("messages", after=after, limit=5000)
            found += page["data"]
            after = page["next"]
        return found

    # --- scenarios -----------------------------------------------------------------------------------------------

    def begin(self, *, throughput: int = 200, **switches: Any) -> None:
        """Start a scenario: the simulator calm but for these switches, every number at this throughput."""
        self.receives_from = self.ask("messages", limit=1)["total"]
        self.unplanned.clear()
        self.switches = CALM | switches
        self.tell("settings", **self.switches)
        self.rows("UPDATE whatsapp_phonenumber SET throughput = %s", throughput)

    def numbers(self, people: int, *, endings: Sequence[int] | None = None) -> list[str]:
        """So many new phone numbers, which end in `endings` by turns; nobody has them yet."""
        first = f"+4915{next(self._audiences):04}"
        chosen = list(endings) if endings is not None else list(range(100))
        return [f"{first}{n // len(chosen):04}{chosen[n % len(chosen)]:02}" for n in range(people)]

    def audience(self, people: int, *, organization: str = HERE, endings: Sequence[int] | None = None) -> str:
        """A new tag with so many new contacts, whose numbers end in `endings` by turns; the tag's name."""
        number = next(self._audiences)
        tag = f"audience {number}"
        chosen = list(endings) if endings is not None else list(range(100))
        first = f"+4915{number:04}"  # the rest is a running number and the ending
        self.rows(_AUDIENCE, organization, tag, first, chosen, len(chosen), people)
        return tag

    def launch(
        self,
        people: int = 0,
        *,
        tag: str = "",
        template: tuple[str, tuple[str, ...]] = MARKETING,
        organization: str = HERE,
        number: int = 0,
        endings: Sequence[int] | None = None,
    ) -> Launched:
        """Send a broadcast to new contacts, or to those who hold `tag`."""
        tag = tag or self.audience(people, organization=organization, endings=endings)
        name, variables = template
        filled = [word for each in variables for word in ("--variable", each)]
        made = self.do(
            "command", "broadcast", "create", organization, "--name", tag, "--template", name, "--language", "en_US",
            "--tag", tag, "--phone-number-id", NUMBERS[organization][number], *filled,
        )  # fmt: skip
        self.do("command", "broadcast", "send", made["id"])
        key = self.value("SELECT max(id) FROM broadcasts_broadcast WHERE name = %s", tag)
        return Launched(key, made["id"], organization, self.holders(tag))

    def holders(self, tag: str) -> frozenset[int]:
        """The contacts that hold `tag`."""
        held = "SELECT ct.contact_id FROM contacts_contacttag ct JOIN contacts_tag t ON t.id = tag_id WHERE name = %s"
        return frozenset(contact for (contact,) in self.rows(held, tag))

    def status(self, broadcast: Launched) -> str:
        return str(self.value("SELECT status FROM broadcasts_broadcast WHERE id = %s", broadcast.id))

    def accepted(self) -> int:
        """How many messages the simulator has accepted in this scenario."""
        return int(self.ask("messages", limit=1)["total"]) - self.receives_from

    def until(
        self,
        happened: Callable[[], bool],
        what: str,
        *,
        seconds: float = PATIENCE,
        step: float = 0.05,
        spare: Collection[str] = (),
    ) -> None:
        """Wait for something while the supervisor keeps every part running but `spare`. Raises OutOfPatienceError."""
        deadline = time.monotonic() + seconds
        while not happened():
            self.tend(spare=spare)
            if time.monotonic() > deadline:
                raise OutOfPatienceError(f"In {seconds:.0f} s it did not come to it that {what}.\n{self.last_words()}")
            time.sleep(step)

    def until_sent(self, messages: int) -> None:
        """Wait until the simulator has accepted so many in this scenario: the middle of a broadcast."""
        self.until(lambda: self.accepted() >= messages, f"{messages} messages are accepted")

    def finish(self, *broadcasts: Launched, status: str = "completed", seconds: float = PATIENCE) -> None:
        """Wait until these end by themselves and all that Meta has to tell is told and applied."""
        for broadcast in broadcasts:
            self.until(lambda it=broadcast: self._is(it, status), f"{broadcast} is {status}", seconds=seconds)  # type: ignore[misc]
        self.until(self.is_settled, "everything is told and applied", seconds=seconds)

    def _is(self, broadcast: Launched, status: str) -> bool:
        now, why = self.rows("SELECT status, status_detail FROM broadcasts_broadcast WHERE id = %s", broadcast.id)[0]
        if now != status and now in ("paused", "failed", "canceled", "completed"):
            raise OutOfPatienceError(f"{broadcast} is {now}: {why}\n{self.last_words()}")
        return bool(now == status)

    def is_settled(self) -> bool:
        """Whether nothing is being sent or canceled, the simulator has told all, and all of it is applied."""
        open_here = self.value(
            "SELECT (SELECT count(*) FROM messaging_message m JOIN messaging_dispatch d ON d.id = dispatch_id"
            "        WHERE lease_until IS NOT NULL OR (due_at IS NOT NULL AND canceled_at IS NOT NULL))"
            " + (SELECT count(*) FROM inbound_callback WHERE applied_at IS NULL)"
            " + (SELECT count(*) FROM messaging_unmatchedreceipt)"
        )
        return bool(not open_here and self.ask("idle")["idle"])

    # --- dying ---------------------------------------------------------------------------------------------------

    def is_up(self, name: str) -> bool:
        """Whether a part has begun its work in its present life."""
        child = self.parts[name]
        with child.log.open("rb") as log:
            log.seek(self._born[name])
            return not child.ended and child.program.ready(log.read().decode(errors="replace"))

    def kill(self, *names: str) -> None:
        """SIGKILL to these parts at once, with all that they started. `revive` brings them back."""
        for name in names:
            with_group = self.parts[name].process.pid
            if not self.parts[name].ended:
                os.killpg(with_group, signal.SIGKILL)
        for name in names:
            self.parts[name].kill()
        self.kills += len(names)

    def revive(self, *names: str) -> None:
        """Start these parts again, as a supervisor does; returns at once, but for the simulator."""
        for name in names:
            child = self.parts[name]
            self._born[name] = child.log.stat().st_size
            child.start()
        if "simulator" in names:  # it has forgotten its switches
            self.until(lambda: self.is_up("simulator"), "the simulator is up", spare=self.parts)
            self.tell("settings", **self.switches)

    def restart(self, *names: str) -> None:
        """Kill these parts and start them again at once."""
        self.kill(*names)
        self.revive(*names)

    def tend(self, *, spare: Collection[str] = ()) -> None:
        """What a supervisor does: start again whatever has ended by itself; `spare` was killed on purpose."""
        for name, child in self.parts.items():
            if name not in spare and child.ended:
                self.unplanned.append(child.obituary)
                child.kill()
                self.revive(name)

    def crash_postgres(self, *, away: float = 0.0) -> None:
        """SIGKILL to PostgreSQL with all its sessions, and its recovery after `away` seconds."""
        self.postgres.kill()
        self._back(self.postgres, away)

    def shut_postgres_down(self, *, away: float = 0.0) -> None:
        """An immediate shutdown of PostgreSQL, and its recovery."""
        os.kill(self.postgres.pid or 0, signal.SIGQUIT)
        self.postgres.kill()
        self._back(self.postgres, away)

    def crash_redis(self, *, away: float = 0.0) -> None:
        """SIGKILL to Redis; it comes back empty after `away` seconds."""
        self.redis.kill()
        self._back(self.redis, away)

    def _back(self, server: embedded.Server, away: float) -> None:
        self.kills += 1
        time.sleep(away)
        server.start()

    def last_words(self, lines: int = 15) -> str:
        """How the log of every part ends, without what went well."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{_troubles(log, lines)}" for log in logs)


def _troubles(log: Path, lines: int) -> str:
    told = log.read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in told if not QUIET.search(line) and line.strip())[-lines * 150 :]


_AUDIENCE = """
WITH owner AS (SELECT id FROM organizations_organization WHERE slug = %s),
given AS (INSERT INTO contacts_tag (organization_id, name, created_at) SELECT id, %s, now() FROM owner RETURNING id),
asked AS (SELECT %s::text AS first, %s::int[] AS endings, %s::int AS many, %s::int AS people),
made AS (
  INSERT INTO contacts_contact (organization_id, phone, country, name, email, attributes, opted_in, opted_in_at,
    opt_in_source, opt_in_proof, opt_out_source, created_at, updated_at)
  SELECT owner.id, first || lpad((n / many)::text, 4, '0') || lpad(endings[n %% many + 1]::text, 2, '0'), 'DE',
    'Person ' || n, '', '{}', true, now(), 'import', 'sample', '', now(), now()
  FROM owner, asked, generate_series(0, people - 1) AS n RETURNING id
)
INSERT INTO contacts_contacttag (contact_id, tag_id, added_at) SELECT made.id, given.id, now() FROM made, given
"""

"""What the simulator is started with, and the command line that says it."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaanha.simulator.switches import span
from kaanha.simulator.templates import Templates

PHONE_NUMBER_IDS = ("200000000000001", "200000000000002")


@dataclass(slots=True)
class Options:
    """Identity, address and starting switches of one simulated Meta app with one account."""

    host: str = "127.0.0.1"
    port: int = 9100  # 0: any free one
    access_token: str = "sim-access-token"  # noqa: S105  sample credentials of a simulator
    app_id: str = "400000000000001"
    app_secret: str = "sim_app_secret_0001"  # noqa: S105
    waba_id: str = "300000000000001"
    phone_number_ids: tuple[str, ...] = PHONE_NUMBER_IDS
    callback_url: str | None = None
    verify_token: str | None = None
    seed: int = 1
    templates: list[dict[str, Any]] = field(default_factory=list)
    log: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Put every option on the command line, with the defaults of Options."""
    default = Options()
    add = parser.add_argument
    add("--host", default=default.host)
    add("--port", type=int, default=default.port, help="0 takes any free port")
    add("--access-token", default=default.access_token)
    add("--app-id", default=default.app_id)
    add("--app-secret", default=default.app_secret, help="signs the callbacks")
    add("--waba-id", default=default.waba_id)
    add("--phone-number-id", action="append", metavar="ID", help=f"repeatable (default: {' '.join(PHONE_NUMBER_IDS)})")
    add("--callback-url", help="where callbacks go; the handshake is done at start")
    add("--verify-token", help="the token of the handshake")
    add("--throughput", type=int, metavar="N", help="messages a second of each number (default: not enforced)")
    add("--pair-rate", action="store_true", help="enforce the pair rate limit")
    add("--latency", type=span, metavar="SECONDS", help="time until a message is answered, such as 0.05-0.4")
    add("--speed", type=float, default=1.0, help="divides the delays of all callbacks")
    add("--no-cards", action="store_true", help="recipient numbers decide nothing")
    add("--seed", type=int, default=default.seed)
    add("--templates", type=Path, metavar="FILE", help="JSON: more templates, or others of the same name and language")
    add("--log", type=Path, metavar="FILE", help="JSON lines of everything accepted; read back at the next start")


def options_from(arguments: argparse.Namespace) -> Options:
    """Options from parsed arguments. Raises ValueError, a sentence, for a file or value that can't be used."""
    settings: dict[str, Any] = {
        "throughput": arguments.throughput,
        "pairRate": arguments.pair_rate,
        "speed": arguments.speed,
        "cards": not arguments.no_cards,
    }
    if arguments.latency:
        settings["latency"] = arguments.latency
    return Options(
        host=arguments.host,
        port=arguments.port,
        access_token=arguments.access_token,
        app_id=arguments.app_id,
        app_secret=arguments.app_secret,
        waba_id=arguments.waba_id,
        phone_number_ids=tuple(arguments.phone_number_id or PHONE_NUMBER_IDS),
        callback_url=arguments.callback_url,
        verify_token=arguments.verify_token,
        seed=arguments.seed,
        templates=read_templates(arguments.templates) if arguments.templates else [],
        log=arguments.log,
        settings=settings,
    )


def read_templates(path: Path) -> list[dict[str, Any]]:
    """Templates from a JSON file: a list, or Meta's own {"data": […]}."""
    try:
        read = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON in UTF-8: {error}.") from error
    templates = read.get("data") if isinstance(read, dict) else read
    needed = ("name", "language", "category", "components")
    if not isinstance(templates, list) or any(not isinstance(each, dict) for each in templates):
        raise ValueError(f"{path} must hold a list of templates.")
    for template in templates:
        missing = [name for name in needed if name not in template]
        if missing:
            raise ValueError(f"A template in {path} lacks {', '.join(missing)}.")
        try:
            Templates().add(template)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The template {template['name']} in {path} is not written as Meta lists it.") from error
    return templates

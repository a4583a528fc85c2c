"""`python -m kaanha.dependency_audit`: known vulnerabilities of what requirements.lock names.

Exit code 1 when there is one. Where the service of the advisories can't be reached, a line says so and the exit code is
0: working offline is no fault.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
PATIENCE = 30  # seconds for everything together
FOUND = 1


def main() -> int:
    said = _asked()
    if isinstance(said, str):
        print(f"Dependencies are not audited: {said}.")  # noqa: T201
        return 0
    audited = [one for one in said if "vulns" in one]
    if not audited:
        print("Dependencies are not audited: no advisory service can be reached from here.")  # noqa: T201
        return 0
    lines = [_line(one, fault) for one in audited for fault in one["vulns"]]
    left = f", {len(said) - len(audited)} could not be asked for" if len(audited) < len(said) else ""
    print("\n".join([*lines, f"Audited {len(audited)} dependencies: {len(lines)} known vulnerabilities{left}."]))  # noqa: T201
    return FOUND if lines else 0


def _asked() -> list[dict[str, Any]] | str:
    """What pip-audit says of each dependency: its `vulns`, or nothing of it; or why it said nothing at all."""
    options = ["--disable-pip", "--require-hashes", "--format=json", "--progress-spinner=off", "--timeout=10"]
    command = [sys.executable, "-m", "pip_audit", f"--requirement={LOCK}", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"no answer within {PATIENCE} seconds"
    except (ValueError, KeyError, TypeError):
        last = done.stderr.strip().splitlines()[-1:] or ["pip-audit said nothing"]
        return last[0].removesuffix(".")
    return found


def _line(dependency: dict[str, Any], fault: dict[str, Any]) -> str:
    mended = ", ".join(fault.get("fix_versions") or ["none yet"])
    return f"{dependency['name']} {dependency['version']}: {fault['id']}. Mended in: {mended}. Then: make lock"


if __name__ == "__main__":
    sys.exit(main())

"""Life cycles as tables: which state may follow which."""

from collections.abc import Collection, Iterable, Mapping


def sources(transitions: Mapping[str, Collection[str]], target: str) -> list[str]:
    """The states from which `target` may be entered."""
    return [str(state) for state, targets in transitions.items() if target in targets]


def reachable(transitions: Mapping[str, Collection[str]], start: str) -> set[str]:
    """Every state that can follow `start`, however many steps later."""
    found: set[str] = set()
    ahead: Iterable[str] = [start]
    while ahead := {str(target) for state in ahead for target in transitions.get(state, ())} - found:
        found |= ahead
    return found

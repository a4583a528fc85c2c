"""Life cycles as tables: which state may follow which."""

from collections.abc import Collection, Mapping


def sources(transitions: Mapping[str, Collection[str]], target: str) -> list[str]:
    """The states from which `target` may be entered."""
    return [str(state) for state, targets in transitions.items() if target in targets]

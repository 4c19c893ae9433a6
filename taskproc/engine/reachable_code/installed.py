"""Tell which distribution an installed module belongs to, and its version.

Knows nothing of what the project names.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Distribution(NamedTuple):
    """An installed distribution, as its metadata call it."""

    name: str
    version: str


class Installed:
    """What is installed in this environment; each module and distribution is looked up once."""

    def __init__(self) -> None:
        self._modules: dict[str, tuple[Distribution, ...]] = {}
        self._all: Mapping[str, Sequence[str]] | None = None

    def refreshed(self) -> Installed:
        """The same for a later look; which module belongs to which distribution it still knows."""
        later = Installed()
        later._all = self._all
        return later

    def distribution(self, name: str) -> Distribution | None:
        """The installed distribution of this name, in whatever spelling; None if there is none."""
        import importlib.metadata  # it costs as much as all of this library

        try:
            found = importlib.metadata.distribution(name)
            return Distribution(str(found.metadata["Name"]), str(found.version))
        except Exception:  # noqa: BLE001 - no such one, or metadata damaged in one of many ways
            return None

    def of_module(self, module: str) -> tuple[Distribution, ...]:
        """The distributions that a module may come from; () if it can't be told."""
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("", "taskproc"):
            return ()
        known = self._modules.get(top)
        if known is None:
            known = self._modules[top] = self._find(top)
        return known

    def _find(self, top: str) -> tuple[Distribution, ...]:
        found = self.distribution(top)
        if found is not None:
            return (found,)
        if self._all is None:
            import importlib.metadata

            try:
                self._all = importlib.metadata.packages_distributions()  # reads them all: 0.1 s and more
            except Exception:  # noqa: BLE001 - what can't be told is left out
                self._all = {}
        others = [self.distribution(name) for name in sorted(set(self._all.get(top, ())))]
        return tuple(other for other in others if other is not None)

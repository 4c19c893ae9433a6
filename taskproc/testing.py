"""Contract suites for plugin authors, one for each protocol of `taskproc.interfaces`.

Subclass a suite in a test file, say in `make` how your component is made, and pytest
runs the whole list against it. The default plugins subclass the same suites.
"""

from __future__ import annotations

"""What every test needs: none of the tester's own settings, and no deadlines on a busy machine."""

from __future__ import annotations

import os

import hypothesis

# Which plugins load is for each test to say.
os.environ.pop("TASKPROC_DISABLE_PLUGINS", None)

hypothesis.settings.register_profile("taskproc", deadline=None)
hypothesis.settings.load_profile("taskproc")

"""What every test needs: none of the tester's own settings, and no deadlines on a busy machine."""

from __future__ import annotations

import os

import hypothesis

# Which plugins load is for each test to say.
os.environ.pop("TASKPROC_DISABLE_PLUGINS", None)

hypothesis.settings.register_profile("taskproc", deadline=None)
# For one night: a hundred times as many examples. Chosen by HYPOTHESIS_PROFILE=nightly, or by
# pytest's --hypothesis-profile nightly, which is read after this.
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "taskproc"))

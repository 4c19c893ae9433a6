"""Build, run and cache pipelines of tasks."""

__version__ = "1.0.0"

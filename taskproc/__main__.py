"""Start the command, as `taskproc` or `python -m taskproc`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command with the words of this process, and exit with its code."""
    try:
        from taskproc.cli.main import command

        command()
    except KeyboardInterrupt:  # while the command itself was being imported
        sys.exit(130)


def put_working_directory_last(path: list[str]) -> None:
    """Move the working directory, which `-m` puts first on `sys.path`, to its end.

    A user's `json.py` there must not be taken for the standard library's by our own imports.
    """
    if not sys.flags.safe_path and path[:1] == [os.getcwd()]:
        path.append(path.pop(0))


if __name__ == "__main__":
    put_working_directory_last(sys.path)
    main()

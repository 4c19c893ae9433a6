"""Start the command, as `taskproc` or `python -m taskproc`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command with the words of this process, and exit with its code."""
    # First of all: a signal may come while the command itself is being imported.
    from taskproc.engine.interruption import Interruption

    signals = Interruption(of_command=True)
    try:
        signals.__enter__()  # as long as this process lives
        with signals.listening_in_c():
            from taskproc.cli.main import command

            command()
    except BaseException:
        if not signals.number:
            raise
    finally:
        signals.finish()
    if signals.number:
        sys.exit(signals.exit_code)


def put_working_directory_last(path: list[str]) -> None:
    """Move the working directory, which `-m` puts first on `sys.path`, to its end.

    A user's `json.py` there must not be taken for the standard library's by our own imports.
    """
    if not sys.flags.safe_path and path[:1] == [os.getcwd()]:
        path.append(path.pop(0))


if __name__ == "__main__":
    put_working_directory_last(sys.path)
    main()

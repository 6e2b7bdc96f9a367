"""What the scripts behind `python3 cli bench` share: options that they check, and the way they begin and end.

Standard library only, so that options are checked before anything is installed or imported.
"""

import argparse
import signal
import sys
from collections.abc import Callable


def list_of(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
    """For argparse: words joined by commas, each of `allowed`."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        wrong = [word for word in words if word not in allowed]
        if wrong:
            raise argparse.ArgumentTypeError(f"got '{wrong[0]}'; {', '.join(allowed)} are allowed, joined by commas")
        return words

    return parse


def positive(text: str) -> int:
    """For argparse: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got '{text}'; a whole number from 1 is allowed")
    return int(text)


def run(
    script: str,
    measure: Callable[[], int],
    errors: tuple[type[Exception], ...] = (OSError,),
    stopped: str = "stopped by Ctrl-C",
) -> int:
    """`measure` in the environment; returns its exit code, or that of how it ended, told in one line.

    SIGTERM raises SystemExit, so that temporary folders and child processes go, too. `errors` are those whose text is
    meant for the user.
    """
    signal.signal(signal.SIGTERM, _ask_to_end)
    try:
        import environment  # of reference_model/, which the script has put on the path

        environment.enter(script)
        return measure()
    except KeyboardInterrupt:
        print(f"error: {stopped}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone; nothing more can be said
        return 1
    except errors as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1


def _ask_to_end(signal_number: int, _frame: object) -> None:
    raise SystemExit(128 + signal_number)

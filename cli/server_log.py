"""Finding the reason of a failure in the host's log."""

import re

LINES = 15
_IMPORT_ERROR = re.compile(r"Error while calling comfy_entrypoint|Cannot import .* module for custom nodes")
_TRACEBACK = "Traceback (most recent call last)"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PORT_TAKEN = re.compile(r"address already in use|Errno (98|48|10048)\b", re.IGNORECASE)


def _traceback_end(lines: list[str], start: int) -> int:
    """The line with the exception: the first after the traceback's head that is not indented."""
    for number in range(start + 1, len(lines)):
        if not lines[number].startswith((" ", "\t")):
            return number
    return len(lines) - 1


def failure_lines(log: str) -> list[str]:
    """The lines that end with the reason: the last import error, else the last exception, else the end of the log."""
    lines = [line.rstrip() for line in _COLOUR.sub("", log).splitlines() if line.strip()]
    imports = [number for number, line in enumerate(lines) if _IMPORT_ERROR.search(line)]
    tracebacks = [number for number, line in enumerate(lines) if _TRACEBACK in line]
    if imports:
        end = imports[-1]
    elif tracebacks:
        end = _traceback_end(lines, tracebacks[-1])
    else:
        end = len(lines) - 1
    return lines[max(0, end - LINES + 1) : end + 1]


def port_was_taken(log: str) -> bool:
    """Whether the host ended because its port was in use."""
    return bool(_PORT_TAKEN.search(log[-4000:]))

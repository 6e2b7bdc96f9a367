"""Why a job failed, from the host's execution_error message or its history, and whether trying again can help."""

from dataclasses import dataclass

# kind -> how often a job may be made again for it
RETRIES = {"memory": 1, "server": 2, "file": 2, "lasting": 0, "disk": 0}
_MEMORY_TYPES = ("OutOfMemoryError", "MemoryError")
_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
_DISK_TEXTS = ("no space left on device", "not enough space on the disk", "disk quota exceeded")


@dataclass(frozen=True)
class Failure:
    """`kind` is a key of RETRIES: "disk" means that every other job would fail as well."""

    kind: str
    text: str


def judge(data: dict) -> Failure:
    """The data of an execution_error message -> what it is."""
    message = " ".join(str(data.get("exception_message") or "").split())
    kind = str(data.get("exception_type") or "")
    text = f"{data.get('node_id')} ({data.get('node_type')}) failed: {message or kind or 'no reason was given'}"
    low = message.lower()
    if any(part in low for part in _DISK_TEXTS):
        return Failure("disk", text)
    if kind.rpartition(".")[2] in _MEMORY_TYPES or any(part in low for part in _MEMORY_TEXTS):
        return Failure("memory", text)
    return Failure("lasting", text)


def history_end(entry: dict) -> tuple[str, dict]:
    """An entry of /history -> ("success" | "error" | "interrupted", the data of the message that says so)."""
    status, messages = _status(entry), _messages(entry)
    if "execution_interrupted" in messages:
        return "interrupted", messages["execution_interrupted"]
    if "execution_error" in messages:
        return "error", messages["execution_error"]
    if status.get("status_str") == "success" or status.get("completed"):
        return "success", messages.get("execution_success", {})
    return "error", {"exception_message": "ComfyUI's history does not say why"}


def history_seconds(entry: dict) -> float | None:
    """How long the server worked on it."""
    times = {name: data.get("timestamp") for name, data in _messages(entry).items()}
    return seconds_between(times.get("execution_start"), times.get("execution_success"))


def _status(entry: dict) -> dict:
    status = entry.get("status")
    return status if isinstance(status, dict) else {}


def _messages(entry: dict) -> dict[str, dict]:
    """The messages of a run by their names; whatever is none is left out."""
    found = _status(entry).get("messages")
    pairs = [pair for pair in found if isinstance(pair, list) and len(pair) == 2] if isinstance(found, list) else []
    return {name: data for name, data in pairs if isinstance(name, str) and isinstance(data, dict)}


def seconds_between(start_ms: object, end_ms: object) -> float | None:
    """The host's timestamps are milliseconds."""
    if not isinstance(start_ms, int | float) or not isinstance(end_ms, int | float):
        return None
    return max(0.0, (end_ms - start_ms) / 1000)

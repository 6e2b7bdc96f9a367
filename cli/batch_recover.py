"""Finding the files of a job whose server has forgotten it: it was restarted after the job had ended, unseen.

Only places are known, so the stock saving nodes' naming is used: <prefix>_00001_.<end>, counted up in a series of
images. Some files are complete if they can be read, which the job's folder shows later; a series, or a file that can be
read to where it was cut off, is only known to be complete if the server went on to a later job of ours before it ended:
then there is a trace of that one.
"""

from dataclasses import dataclass

from .batch_api import Api
from .batch_files import posted_workflow
from .batch_store import Job


@dataclass(frozen=True)
class Saver:
    """A saving node: how its files end, in the order to try, and which of these ends can be read only if complete."""

    ends: tuple[str, ...]
    telling: tuple[str, ...] = ()
    is_series: bool = False


_OWN = (".mp4", ".mkv", ".webm")
SAVERS = {
    "SaveImage": Saver((".png",), is_series=True),
    "SaveVideo": Saver((".mp4", ".webm", ".mkv"), telling=(".mp4",)),  # the index is written last
    "SaveWEBM": Saver((".webm",)),
    "SaveAnimatedWEBP": Saver((".webp",), telling=(".webp",)),  # its length is at the beginning
    "SaveAnimatedPNG": Saver((".png",)),
    "WanGGUFSaveVideo": Saver(_OWN, telling=_OWN),  # they get their names when they are complete
}


async def recovered_outputs(api: Api, job: Job, later: list[Job]) -> dict | None:
    """The outputs of a job as /history would list them; None unless all of them are there and complete."""
    prefixes = _saving_nodes(job)
    if not prefixes or any(class_type not in SAVERS for class_type, _ in prefixes.values()):
        return None
    outputs, is_certain = {}, True
    for node, (class_type, prefix) in prefixes.items():
        saver = SAVERS[class_type]
        entries = await _entries(api, prefix, saver.ends, saver.is_series)
        if not entries:
            return None
        outputs[node] = {"images": entries}
        is_certain = is_certain and entries[0]["filename"].endswith(saver.telling)
    return outputs if is_certain or await _went_on(api, later) else None


def _saving_nodes(job: Job) -> dict[str, tuple[str, str]]:
    return {
        node: (body["class_type"], body["inputs"]["filename_prefix"])
        for node, body in posted_workflow(job).items()
        if isinstance(body["inputs"].get("filename_prefix"), str)
    }


async def _entries(api: Api, prefix: str, ends: tuple[str, ...], is_series: bool) -> list[dict]:
    for end in ends:
        found: list[dict] = []
        while is_series or not found:
            entry = _entry(prefix, len(found) + 1, end)
            if not await api.has_file(entry):
                break
            found.append(entry)
        if found:
            return found
    return []


def _entry(prefix: str, number: int, end: str) -> dict:
    subfolder, _, name = prefix.rpartition("/")
    return {"filename": f"{name}_{number:05d}_{end}", "subfolder": subfolder, "type": "output"}


async def _went_on(api: Api, later: list[Job]) -> bool:
    """Whether a job that was queued after this one has left any file; servers run them in order."""
    for job in later:
        for class_type, prefix in _saving_nodes(job).values():
            saver = SAVERS.get(class_type)
            if saver is not None and await _entries(api, prefix, saver.ends, is_series=False):
                return True
    return False

"""Finding the files of a job whose server has forgotten it: it was restarted after the job had ended, unseen.

Only places are known, so the stock saving nodes' naming is used: <prefix>_00001_.<end>, counted up in a series of
images. A video is complete if it can be read, which the job's folder shows later. A series is only known to be complete
if the server went on to a later job of ours before it ended: then there is a trace of that one.
"""

from .batch_api import Api
from .batch_files import posted_workflow
from .batch_store import Job

# class -> (how its files end, in the order to try; whether it writes a series)
SAVERS = {
    "SaveImage": ((".png",), True),
    "SaveVideo": ((".mp4", ".webm", ".mkv"), False),
    "SaveWEBM": ((".webm",), False),
    "SaveAnimatedWEBP": ((".webp",), False),
    "SaveAnimatedPNG": ((".png",), False),
    "WanGGUFSaveVideo": ((".mp4", ".mkv", ".webm"), False),
}


async def recovered_outputs(api: Api, job: Job, later: list[Job]) -> dict | None:
    """The outputs of a job as /history would list them; None unless all of them are there and complete."""
    prefixes = _saving_nodes(job)
    if not prefixes or any(class_type not in SAVERS for class_type, _ in prefixes.values()):
        return None
    outputs, has_series = {}, False
    for node, (class_type, prefix) in prefixes.items():
        ends, is_series = SAVERS[class_type]
        entries = await _entries(api, prefix, ends, is_series)
        if not entries:
            return None
        outputs[node] = {"images": entries}
        has_series = has_series or is_series
    if has_series and not await _went_on(api, later):
        return None
    return outputs


def _saving_nodes(job: Job) -> dict[str, tuple[str, str]]:
    posted = posted_workflow(job.workflow, job.key, job.attempt)
    return {
        node: (body["class_type"], body["inputs"]["filename_prefix"])
        for node, body in posted.items()
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
            ends, _ = SAVERS.get(class_type, ((), False))
            if await _entries(api, prefix, ends, is_series=False):
                return True
    return False

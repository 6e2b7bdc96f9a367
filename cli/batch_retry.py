"""What becomes of a job that failed: again, as long as the kind of its failure allows it, or never."""

from collections import deque

from .batch_failure import RETRIES, Failure
from .batch_store import Job, Store
from .batch_view import BatchView

NOTHING_SAVED = "it ended well, but saved no files; the workflow needs a saving node"


class Retrying:
    """What the loop on one server and the driver of a Ray cluster have in common."""

    store: Store
    waiting: deque[str]
    view: BatchView

    def _again(self, job: Job, failure: Failure) -> None:
        """Once more, before those that wait, as long as the kind of failure allows it."""
        if job.retries >= RETRIES[failure.kind]:
            tried = f" (tried {job.retries + 1} times)" if job.retries else ""
            self._failed(job, failure.text + tried)
            return
        self.store.again(job.key, counts=True)
        self.waiting.appendleft(job.key)
        self.view.note(f"{job.number:04d}-{job.name}: {failure.text}; trying again")

    def _failed(self, job: Job, error: str) -> None:
        self.store.failed(job.key, error)
        self.view.ended(job, f"failed: {error}")

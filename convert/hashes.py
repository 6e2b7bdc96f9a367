"""SHA-256 of the source's files, counted in the background while the conversion runs."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

_BUFFER_BYTES = 1 << 22
_POLL_S = 0.2


class Hashes:
    """`with Hashes(files) as hashes:` counting begins at once; leaving the block ends it."""

    def __init__(self, files: tuple[Path, ...]):
        self._files = files
        self._found: list[str] = []
        self._error: OSError | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hash of the source", daemon=True)

    def __enter__(self) -> "Hashes":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def wait(self, check_interrupt: Callable[[], None]) -> list[str]:
        """The hashes in hex, in the files' order. Raises OSError."""
        while self._thread.is_alive():
            self._thread.join(_POLL_S)
            check_interrupt()
        if self._error is not None:
            raise self._error
        return self._found

    def _run(self) -> None:
        try:
            for path in self._files:
                self._found.append(file_sha256(path, self._stopped.is_set))
        except OSError as error:
            self._error = error


def file_sha256(path: Path, is_stopped: Callable[[], bool] = lambda: False) -> str:
    """SHA-256 in hex, of what was read before it was stopped."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with path.open("rb", buffering=0) as file:
        while not is_stopped() and (count := file.readinto(buffer)):
            digest.update(buffer[:count])
    return digest.hexdigest()

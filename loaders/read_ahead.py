"""Reads a file in the background, so that the system has it in its page cache before somebody needs it.

A mapped file is read from the disk when its pages are touched, one small piece after the other: a model of 10 GB begins
with minutes of waiting. Plain reading into a buffer that is thrown away fills the same cache on every system; advice
(madvise, posix_fadvise) is limited to the disk's read-ahead window on newer Linux and unknown to Windows.
What is computed from the file cannot depend on it.
"""

import logging
import threading
from pathlib import Path

CHUNK_BYTES = 8 << 20


class ReadAhead:
    """One reading of one file: `start` returns at once, `stop` ends it early and waits. Both may be called again."""

    def __init__(self, path: Path):
        self.path = path
        self.bytes_read = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read, unless that was done before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name=f"read ahead {self.path.name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Return when nothing is read any more."""
        self._stopped.set()
        self.wait()

    def wait(self) -> None:
        """Return when all has been read or reading was stopped."""
        if self._thread is not None:
            self._thread.join()

    def _read(self) -> None:
        buffer = bytearray(CHUNK_BYTES)
        try:
            with self.path.open("rb", buffering=0) as file:
                while not self._stopped.is_set() and (count := file.readinto(buffer)):
                    self.bytes_read += count
        except OSError as error:  # whoever needs the file will say what is wrong with it
            logging.info("%s was not read ahead: %s", self.path.name, error)

"""The state of a batch: one SQLite file beside its results, so that a kill at any moment loses nothing.

    waiting   not on a server
    queued    given to a server under `prompt_id`, or about to be: the id is stored before it is sent
    made      ended well; `outputs` lists its files on the server
    done      its folders are complete
    failed    `error` says why

A job is a workflow; its key is a hash of it, so equal rows are one job. A place is where a row's result goes; a job has
one or more. The journal is SQLite's classic one, because write-ahead logs need shared memory, which network disks
lack; every change is on the disk before the next step is taken (synchronous FULL). A lock keeps a second client away.
"""

import hashlib
import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import CliError
from .lock import locked

FILE_NAME, LOCK_NAME = "batch.sqlite", ".batch.lock"
VERSION = "1"
OPEN_STATES = ("waiting", "queued", "made")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'queued', 'made', 'done', 'failed')),
    prompt_id TEXT UNIQUE,
    attempt INTEGER NOT NULL DEFAULT 1,
    retries INTEGER NOT NULL DEFAULT 0,
    outputs TEXT,
    error TEXT,
    queued_s REAL,
    ended_s REAL,
    run_s REAL
);
CREATE TABLE IF NOT EXISTS places (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL REFERENCES jobs (key),
    name TEXT NOT NULL,
    listed INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS places_of_key ON places (key);
CREATE INDEX IF NOT EXISTS jobs_of_state ON jobs (state);
"""
# in the order of the list; a job is wanted if the list of this run has it
_KEYS = """
SELECT jobs.key FROM jobs JOIN places USING (key) WHERE listed AND state IN ({states})
GROUP BY jobs.key ORDER BY min(number)
"""
# SQLite takes `name` from the row of min()
_JOB = """
SELECT jobs.*, min(number) AS number, name FROM jobs JOIN places USING (key) WHERE jobs.key = ? AND listed
"""


@dataclass(frozen=True)
class Job:
    """One workflow and where it stands; `number` and `name` are those of its first place, `mark` is the store's."""

    key: str
    workflow: dict
    state: str
    prompt_id: str | None
    attempt: int
    retries: int
    outputs: dict
    error: str | None
    queued_s: float | None
    run_s: float | None
    number: int
    name: str
    mark: str = ""


@dataclass(frozen=True)
class Synced:
    """What a list changed: new places, places known before, places of the store that the list has no more."""

    added: int
    known: int
    unlisted: int


def job_key(workflow: dict) -> str:
    """SHA-256 of what a workflow does: titles and other remarks under `_meta` do not count."""
    bare = {node: {name: part for name, part in body.items() if name != "_meta"} for node, body in workflow.items()}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@contextmanager
def opened_store(folder: Path) -> Iterator["Store"]:
    """The store of a folder, locked against other clients. Raises CliError."""

    def refuse() -> None:
        raise CliError(f"another batch is writing to {folder}; wait for its end, or name another folder with --out")

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK_NAME).open("a+b").close()
    except OSError as failure:
        reason = failure.strerror or failure
        raise CliError(
            f"{folder} cannot be written: {reason}; mend that, or name another folder with --out"
        ) from failure
    try:
        with locked(folder / LOCK_NAME, on_wait=refuse):
            store = Store(folder / FILE_NAME)
            try:
                yield store
            finally:
                store.close()
    except sqlite3.Error as failure:
        raise CliError(_explain(folder / FILE_NAME, failure)) from failure


def _explain(path: Path, failure: sqlite3.Error) -> str:
    if isinstance(failure, sqlite3.OperationalError):  # disk full, unwritable, I/O error
        return f"{path} cannot be written: {failure}; what is done is kept: mend that, then run the same command again"
    return (
        f"{path} cannot be used: {failure}; put it back from a copy, or move it away: results beside it are known by "
        "their records"
    )


class Store:
    """Every method is one transaction that is on the disk when it returns."""

    def __init__(self, path: Path):
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SCHEMA)
        version = self._meta("version", VERSION)
        if version != VERSION:
            raise CliError(
                f"{path} is of version {version}, this program reads {VERSION}; use the program that made it"
            )
        self.client_id = self._meta("client_id", uuid.uuid4().hex)  # kept, so that a server's messages find us again
        self.mark = self._made_mark()

    def close(self) -> None:
        self._connection.close()

    def _meta(self, name: str, default: str) -> str:
        self._connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, default))
        return self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]

    def _made_mark(self) -> str:
        """What tells our files on a server from those of another batch with the same workflows.

        Empty in a store of an earlier version for as long as jobs that it has sent without one are not done.
        """
        sent = "SELECT 1 FROM jobs WHERE state IN ('queued', 'made') LIMIT 1"
        has_mark = self._connection.execute("SELECT 1 FROM meta WHERE name = 'mark'").fetchone()
        if not has_mark and self._connection.execute(sent).fetchone():
            return ""
        return self._meta("mark", uuid.uuid4().hex[:8])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            if self._connection.in_transaction:  # a full disk has SQLite roll back by itself
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def sync(self, jobs: Iterable[tuple[str, dict]]) -> Synced:
        """Take a list of (name, workflow): known places are kept, new ones get the next numbers; all or nothing."""
        with self._transaction() as sql:
            known: dict[str, list[int]] = {}
            for row in sql.execute("SELECT key, number FROM places ORDER BY number DESC"):
                known.setdefault(row["key"], []).append(row["number"])
            n_before = sum(map(len, known.values()))
            sql.execute("UPDATE places SET listed = 0")
            number = sql.execute("SELECT coalesce(max(number), 0) FROM places").fetchone()[0]
            added = kept = 0
            for name, workflow in jobs:
                key = job_key(workflow)
                if known.get(key):
                    sql.execute("UPDATE places SET listed = 1 WHERE number = ?", (known[key].pop(),))
                    kept += 1
                    continue
                text = json.dumps(workflow, ensure_ascii=False)
                sql.execute("INSERT OR IGNORE INTO jobs (key, workflow, state) VALUES (?, ?, 'waiting')", (key, text))
                number, added = number + 1, added + 1
                sql.execute("INSERT INTO places VALUES (?, ?, ?, 1)", (number, key, name))
        return Synced(added, kept, n_before - kept)

    def keys(self, *states: str) -> list[str]:
        """The jobs of this run's list that are in one of these states, in order."""
        query = _KEYS.format(states=", ".join("?" * len(states)))
        return [row[0] for row in self._connection.execute(query, states)]

    def job(self, key: str) -> Job:
        """One job of this run's list."""
        return _job(self._connection.execute(_JOB, (key,)).fetchone(), self.mark)

    def counts(self) -> dict[str, int]:
        """State -> jobs of this run's list."""
        query = "SELECT state, count(DISTINCT jobs.key) FROM jobs JOIN places USING (key) WHERE listed GROUP BY state"
        found = dict(tuple(row) for row in self._connection.execute(query))
        return {state: found.get(state, 0) for state in (*OPEN_STATES, "done", "failed")}

    def places(self, key: str) -> list[tuple[int, str]]:
        """(number, name) of every listed place of a job."""
        query = "SELECT number, name FROM places WHERE key = ? AND listed ORDER BY number"
        return [tuple(row) for row in self._connection.execute(query, (key,))]

    def _change(self, key: str, assignments: str, values: tuple = ()) -> None:
        self._connection.execute(f"UPDATE jobs SET {assignments} WHERE key = ?", (*values, key))

    def queue(self, key: str) -> str:
        """A new prompt id for the job, stored before anybody else hears of it."""
        prompt_id = str(uuid.uuid4())
        self._change(key, "state = 'queued', prompt_id = ?, queued_s = ?, error = NULL", (prompt_id, time.time()))
        return prompt_id

    def made(self, key: str, outputs: dict, run_s: float | None = None) -> None:
        """It ended well, and these are its outputs."""
        self._change(key, "state = 'made', outputs = ?, run_s = ?", (json.dumps(outputs), run_s))

    def done(self, key: str) -> None:
        """Its folders are complete."""
        self._change(key, "state = 'done', ended_s = ?", (time.time(),))

    def found(self, keys: Iterable[str]) -> None:
        """The folders of these are complete, though the store did not know it."""
        with self._transaction():
            for key in keys:
                self.done(key)

    def failed(self, key: str, error: str) -> None:
        """It failed for a reason that does not pass."""
        self._change(key, "state = 'failed', error = ?, ended_s = ?", (error, time.time()))

    def withdrawn(self, key: str) -> None:
        """It was taken from the server before it began."""
        self._change(key, "state = 'waiting', prompt_id = NULL")

    def again(self, key: str, counts: bool) -> None:
        """It has to be made again; `counts`: and that was its own doing, perhaps."""
        self._change(
            key,
            "state = 'waiting', prompt_id = NULL, outputs = NULL, attempt = attempt + 1, retries = retries + ?",
            (int(counts),),
        )

    def retry_failed(self) -> int:
        """Failed jobs of the list wait again, as if they had never been tried. Returns how many."""
        keys = self.keys("failed")
        with self._transaction():
            for key in keys:
                self.again(key, counts=False)
                self._change(key, "retries = 0, error = NULL")
        return len(keys)


def _job(row: sqlite3.Row, mark: str) -> Job:
    fields = {name: row[name] for name in Job.__dataclass_fields__ if name != "mark"}
    outputs = json.loads(row["outputs"]) if row["outputs"] else {}
    return Job(**{**fields, "workflow": json.loads(row["workflow"]), "outputs": outputs}, mark=mark)

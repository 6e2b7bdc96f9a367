"""The store: what a list becomes, what every change leaves on the disk, who may open it, what a full disk does."""

import sqlite3

import pytest

from wan_gguf.cli.batch_store import FILE_NAME, Synced, job_key, opened_store
from wan_gguf.cli.errors import CliError
from wan_gguf.tests.cli.fake_comfy import workflow


def jobs(*colors: int) -> list[tuple[str, dict]]:
    return [(f"job{color}", workflow(color)) for color in colors]


def test_titles_do_not_make_a_job_another_one_but_inputs_do():
    titled = {node: {**body, "_meta": {"title": "T"}} for node, body in workflow(1).items()}
    assert job_key(titled) == job_key(workflow(1)) == job_key(dict(reversed(workflow(1).items())))
    assert job_key(workflow(2)) != job_key(workflow(1))


def test_a_job_goes_through_its_states_and_every_step_is_on_the_disk(tmp_path):
    with opened_store(tmp_path) as store:
        store.sync(jobs(1))
        key = store.keys("waiting")[0]
    steps = [
        (lambda store: store.queue(key), "queued"),
        (lambda store: store.withdrawn(key), "waiting"),
        (lambda store: store.queue(key), "queued"),
        (lambda store: store.made(key, {"save": {"images": []}}, 2.5), "made"),
        (lambda store: store.done(key), "done"),
    ]
    for change, state in steps:
        with opened_store(tmp_path) as store:
            change(store)
        with opened_store(tmp_path) as store:
            assert store.keys(state) == [key]
    with opened_store(tmp_path) as store:
        job = store.job(key)
        assert (job.outputs, job.run_s, job.number, job.name, job.attempt) == (
            {"save": {"images": []}},
            2.5,
            1,
            "job1",
            1,
        )


def test_a_prompt_id_is_new_for_every_sending_and_kept_in_the_store(tmp_path):
    with opened_store(tmp_path) as store:
        store.sync(jobs(1))
        key = store.keys("waiting")[0]
        first = store.queue(key)
        assert store.job(key).prompt_id == first
        store.again(key, counts=True)
        assert store.job(key).prompt_id is None
        assert store.queue(key) != first
        assert (store.job(key).attempt, store.job(key).retries) == (2, 1)


def test_a_changed_list_adds_new_rows_and_keeps_what_is_done(tmp_path):
    with opened_store(tmp_path) as store:
        assert store.sync(jobs(1, 2, 3)) == Synced(added=3, known=0, unlisted=0)
        store.done(store.keys("waiting")[0])
    with opened_store(tmp_path) as store:
        assert store.sync(jobs(4, 1, 3)) == Synced(added=1, known=2, unlisted=1)
        assert store.counts() == {"waiting": 2, "queued": 0, "made": 0, "done": 1, "failed": 0}
        assert [(store.job(key).number, store.job(key).name) for key in store.keys("waiting")] == [
            (3, "job3"),
            (4, "job4"),
        ]
    with opened_store(tmp_path) as store:  # the row that was left out comes back to its own number
        store.sync(jobs(1, 2))
        assert [store.job(key).number for key in store.keys("waiting")] == [2]


def test_equal_rows_are_one_job_with_several_places(tmp_path):
    with opened_store(tmp_path) as store:
        assert store.sync([*jobs(1, 2), ("twin", workflow(1))]).added == 3
        assert len(store.keys("waiting")) == 2
        assert store.places(job_key(workflow(1))) == [(1, "job1"), (3, "twin")]
        assert store.sync([*jobs(1, 2), ("twin", workflow(1))]) == Synced(added=0, known=3, unlisted=0)


def test_a_list_is_taken_over_whole_or_not_at_all(tmp_path):
    def breaking():
        yield from jobs(7, 8)
        raise RuntimeError("the reader broke")

    with opened_store(tmp_path) as store:
        store.sync(jobs(1))
        with pytest.raises(RuntimeError):
            store.sync(breaking())
        assert [store.job(key).name for key in store.keys("waiting")] == ["job1"]


def test_failed_jobs_wait_again_when_asked_for(tmp_path):
    with opened_store(tmp_path) as store:
        store.sync(jobs(1, 2))
        key = store.keys("waiting")[0]
        store.again(key, counts=True)
        store.failed(key, "why")
        assert store.job(key).error == "why"
        assert store.retry_failed() == 1
        assert (store.job(key).state, store.job(key).retries, store.job(key).error) == ("waiting", 0, None)
        assert store.retry_failed() == 0


def test_a_second_client_is_turned_away(tmp_path):
    with (
        opened_store(tmp_path),
        pytest.raises(CliError, match=r"another batch is writing to .*; wait for its end, or name another folder"),
        opened_store(tmp_path),
    ):
        pass
    with opened_store(tmp_path):
        pass  # the lock ends with its holder


def test_the_client_id_stays_so_that_messages_find_their_way(tmp_path):
    with opened_store(tmp_path) as store:
        first = store.client_id
    with opened_store(tmp_path) as store:
        assert store.client_id == first


def test_every_store_has_a_mark_that_its_jobs_carry_and_another_store_another(tmp_path):
    marks = set()
    for name in ("a", "b", "a"):
        with opened_store(tmp_path / name) as store:
            store.sync(jobs(1))
            marks.add(store.mark)
            assert store.job(job_key(workflow(1))).mark == store.mark != ""
    assert len(marks) == 2


@pytest.mark.parametrize("end", ["done", "withdrawn"])
def test_a_store_of_an_earlier_version_gets_its_mark_when_nothing_is_on_a_server(tmp_path, end):
    """Until then its jobs are looked for where that version has sent them."""
    with opened_store(tmp_path) as store:
        store.sync(jobs(1, 2))
        key = store.keys("waiting")[0]
        store.queue(key)
        store._connection.execute("DELETE FROM meta WHERE name = 'mark'")
    for _ in range(2):
        with opened_store(tmp_path) as store:
            assert store.mark == store.job(key).mark == ""
    with opened_store(tmp_path) as store:
        getattr(store, end)(key)
    with opened_store(tmp_path) as store:
        assert len(store.mark) == 8


def test_what_is_found_done_is_marked_at_once(tmp_path):
    with opened_store(tmp_path) as store:
        store.sync(jobs(1, 2, 3))
        store.found(store.keys("waiting")[1:])
    with opened_store(tmp_path) as store:
        assert [store.job(key).name for key in store.keys("done")] == ["job2", "job3"]
        assert [store.job(key).name for key in store.keys("waiting")] == ["job1"]


def test_changes_are_flushed_and_no_shared_memory_is_needed(tmp_path):
    """Network disks have none; a write-ahead log would."""
    with opened_store(tmp_path) as store:
        assert store._connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
        assert store._connection.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_a_full_disk_is_one_clear_error_and_the_store_stays_whole(tmp_path):
    with opened_store(tmp_path) as store:
        store.sync(jobs(1))
    with (
        pytest.raises(CliError, match=r"cannot be written: .*full; what is done is kept"),
        opened_store(tmp_path) as store,
    ):
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        store.sync(jobs(*range(1, 400)))
    with opened_store(tmp_path) as store:
        assert sum(store.counts().values()) == 1


def test_a_file_that_is_no_store_is_named(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 100)
    with (
        pytest.raises(CliError, match=rf"{FILE_NAME} cannot be used: .*; put it back from a copy, or move it away"),
        opened_store(tmp_path),
    ):
        pass


def test_a_store_of_another_version_is_left_alone(tmp_path):
    with opened_store(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("UPDATE meta SET value = '9' WHERE name = 'version'")
    connection.commit()
    connection.close()
    with pytest.raises(CliError, match="is of version 9, this program reads 1"), opened_store(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CliError, match=r"cannot be written: .*; mend that, or name another folder"),
        opened_store(tmp_path / "file" / "below"),
    ):
        pass

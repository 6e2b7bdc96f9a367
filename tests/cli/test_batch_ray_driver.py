"""The driver of a batch on Ray, with a stand-in for Ray: workers that fail in every way lose no job and eat none."""

import argparse
from types import SimpleNamespace

import pytest
from PIL import Image

from wan_gguf.cli import batch_ray_driver
from wan_gguf.cli.batch_ray_actors import Member
from wan_gguf.cli.batch_ray_driver import Driver
from wan_gguf.cli.batch_stop import Stop
from wan_gguf.cli.batch_store import opened_store
from wan_gguf.cli.batch_view import BatchView
from wan_gguf.cli.errors import CliError
from wan_gguf.tests.cli.batch_case import STATES, check_results, colours
from wan_gguf.tests.cli.fake_comfy import png, workflow


class RayError(Exception):
    """As Ray's: the mother of its errors."""


class RayTaskError(RayError):
    """The worker's own exception, as `cause`."""

    def __init__(self, cause: str):
        super().__init__("a long trace")
        self.cause = CliError(cause)


class ActorDiedError(RayError):
    """The actor is lost."""


class Reference:
    """What will be answered, and how many turns of the driver's loop that takes."""

    def __init__(self, answer, turns: int):
        self.answer, self.turns = answer, turns


class Method:
    """actor.name.remote(...), with or without options."""

    def __init__(self, answer, turns: int):
        self._answer, self._turns = answer, turns

    def options(self, max_task_retries: int):
        assert max_task_retries == -1
        return self

    def remote(self, argument):
        return Reference(self._answer(argument), self._turns)


class Actor:
    """`answers`: what its runs end with, one after the other; then, and without any, they end well."""

    def __init__(self, answers=(), ready=(), turns: int = 1, ready_turns: int = 1):
        self.answers, self.readies, self.posted = list(answers), list(ready), []
        self.run = Method(self._run, turns)
        self.ready = Method(lambda _types: self.readies.pop(0) if self.readies else [], ready_turns)

    def _run(self, posted: dict):
        self.posted.append(posted["image"]["inputs"]["color"])
        answer = self.answers.pop(0) if self.answers else made
        return answer(posted) if callable(answer) else answer


class FakeRay:
    """Everything that was asked is answered after its turns."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError, ActorDiedError=ActorDiedError)

    def __init__(self):
        self.killed, self.on_wait = [], lambda: None

    def nodes(self):
        return []

    def wait(self, references, timeout):
        assert references, "waiting for nothing never ends"
        self.on_wait()
        for reference in references:
            reference.turns -= 1
        return [reference for reference in references if reference.turns <= 0], []

    def get(self, reference):
        if isinstance(reference.answer, Exception):
            raise reference.answer
        return reference.answer

    def kill(self, actor):
        self.killed.append(actor)


def made(posted: dict, content: bytes | None = None, **failure) -> dict:
    """A worker's answer to a job that ComfyUI has ended."""
    place = posted["save"]["inputs"]["filename_prefix"].rpartition("/")[0]
    images = [{"filename": "save_00001_.png", "subfolder": place, "type": "output"}]
    contents = {"save.png": content or png(posted["image"]["inputs"]["color"])}
    stats = {"system": {}, "devices": []}
    facts = {"versions": {}, "device": "cpu", "threads": 1, "cpu_capability": None, "platform": None}
    fields = {"failure": failure or None, "outputs": {"save": {"images": images}}, "contents": contents}
    return {"made": {**fields, "run_s": 1.0, "stats": stats, "inputs": {}}, "facts": facts, "models": {}}


def ended(kind: str, text: str):
    return lambda posted: made(posted, kind=kind, text=text)


GONE = {"gone": "ComfyUI ended"}


class Case:
    """A batch of so many jobs on these actors."""

    def __init__(self, monkeypatch, out, count: int, *actors: Actor):
        self.ray, self.out, self.actors, self.said = FakeRay(), out, actors, []
        self.jobs = colours(count)
        self.stop = Stop(self.said.append)
        members = [Member(actor) for actor in actors]
        monkeypatch.setattr(batch_ray_driver, "start_members", lambda *_: members)

    def run(self, patience: float = 60.0) -> None:
        view = BatchView(len(self.jobs), 0)
        view.note = self.said.append
        view.ended = lambda job, how: self.said.append(f"{job.name}: {how}")
        options = argparse.Namespace(out=self.out, workers=None, models=None, input=None, patience=patience)
        with opened_store(self.out) as store:
            store.sync(self.jobs)
            try:
                Driver(self.ray, store, options, self.out, view, self.stop).run()
            finally:
                jobs = [store.job(key) for key in store.keys(*STATES)]
                self.states = {job.name: job.state for job in jobs}
                self.tries = {job.name: job.retries + 1 for job in jobs}
                self.errors = {job.name: job.error for job in jobs if job.error}


@pytest.fixture
def case(monkeypatch, tmp_path):
    return lambda count, *actors: Case(monkeypatch, tmp_path / "out", count, *actors)


def test_every_job_is_given_once(case):
    batch = case(9, Actor(), Actor(turns=3), Actor(ready_turns=2))
    batch.run()
    assert sorted(color for actor in batch.actors for color in actor.posted) == list(range(1, 10))
    assert all(actor.posted for actor in batch.actors)
    check_results(batch, range(1, 10))


def test_a_worker_whose_server_always_dies_eats_no_jobs(case):
    bad = Actor([GONE] * 99)
    batch = case(8, bad, Actor(turns=20))  # it is always free first
    batch.run()
    assert set(batch.states.values()) == {"done"} and max(batch.tries.values()) == 2
    assert batch.ray.killed == [bad] and len(bad.posted) == 4 == len(set(bad.posted))
    assert "a worker of the Ray cluster is left out: it failed 4 times in a row" in batch.said
    check_results(batch, range(1, 9))


def test_a_worker_that_works_again_is_kept(case):
    batch = case(9, Actor([GONE, made, GONE, GONE, made, GONE, GONE]))
    batch.run()
    assert set(batch.states.values()) == {"done"} and batch.ray.killed == []


def test_the_only_worker_tries_a_job_three_times(case):
    batch = case(2, Actor([GONE, GONE, GONE]))
    batch.run()
    assert batch.states == {"job1": "failed", "job2": "done"}
    assert batch.errors["job1"] == "ComfyUI ended (tried 3 times)"


def test_a_job_that_waits_for_no_lost_worker_is_made_by_the_one_that_failed_at_it(case):
    batch = case(1, Actor([GONE]), Actor(ready_turns=10**9))
    batch.run()
    assert batch.states == {"job1": "done"}


def test_an_exception_in_a_worker_does_not_end_the_batch(case):
    batch = case(4, Actor([RayTaskError("ComfyUI could not be started")]), Actor(turns=3))
    batch.run()
    assert set(batch.states.values()) == {"done"}
    assert any("its worker failed: ComfyUI could not be started; trying again" in line for line in batch.said)


@pytest.mark.parametrize("lost", [ActorDiedError("node"), RayError("its result was on a lost node")])
def test_what_ray_has_lost_is_given_to_the_next_one_at_once(case, lost):
    never = Actor([lost])
    never.ready = Method(lambda _types: [], 1)
    batch = case(5, never, Actor(turns=2))
    batch.ray.on_wait = lambda: setattr(never, "ready", Method(lambda _types: [], 10**9))  # it does not come back
    batch.run()
    assert set(batch.states.values()) == {"done"} and len(never.posted) == 1
    assert sum("its node or worker was lost; trying again" in line for line in batch.said) == 1


def test_workers_that_cannot_start_are_left_out_with_their_reasons(case):
    broken, bare, dead = Actor(ready=[RayTaskError("no CUDA")]), Actor(ready=[["Sampler"]]), Actor()
    dead.readies = [ActorDiedError("it raised")]
    batch = case(3, broken, bare, dead, Actor(ready_turns=3))
    batch.run()
    assert set(batch.states.values()) == {"done"} and batch.ray.killed == [broken, bare, dead]
    assert any(line.endswith("left out: no CUDA") for line in batch.said)
    assert any("its ComfyUI lacks the nodes Sampler" in line for line in batch.said)


def test_without_any_worker_it_ends_and_nothing_is_lost(case):
    batch = case(3, Actor(ready=[RayTaskError("no CUDA")]), Actor(ready=[["Sampler"]]))
    with pytest.raises(CliError, match=r"no worker of the Ray cluster is left: .*nothing is lost"):
        batch.run()
    assert set(batch.states.values()) == {"waiting"}


def test_without_room_for_any_worker_patience_ends(case):
    with pytest.raises(CliError, match="no worker of the Ray cluster was ready for 0 s; nothing is lost"):
        case(3, Actor(ready_turns=10**9)).run(patience=0.0)


def test_a_full_disk_costs_its_node_and_no_try(case):
    full = Actor([ended("disk", "no space left on device")])
    batch = case(4, full, Actor(turns=2))
    batch.run()
    assert set(batch.states.values()) == {"done"} and set(batch.tries.values()) == {1}
    assert batch.ray.killed == [full] and len(full.posted) == 1


def test_a_file_that_was_cut_off_is_made_again(case):
    batch = case(2, Actor([lambda posted: made(posted, png(1)[:45])]))
    batch.run()
    assert batch.states == {"job1": "done", "job2": "done"} and batch.tries == {"job1": 2, "job2": 1}
    check_results(batch, (1, 2))


def test_a_sound_picture_that_cannot_be_drawn_is_kept_and_a_line_says_so(case, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # twice that is refused
    batch = case(2, Actor([lambda posted: made(posted, png(1, 200))]))
    batch.run()
    assert set(batch.states.values()) == {"done"} and set(batch.tries.values()) == {1}
    assert (batch.out / "0001-job1" / "save.png").read_bytes() == png(1, 200)
    assert "0001-job1: no contact sheet: save.png is too large to be read as a picture" in batch.said


def test_a_damaged_file_fails_its_job_only(case):
    broken = png(1).replace(b"IDAT", b"I\xb4AT")
    batch = case(2, Actor([lambda posted: made(posted, broken)] * 3))
    batch.run()
    assert batch.states == {"job1": "failed", "job2": "done"} and batch.tries["job1"] == 3
    assert batch.errors["job1"].startswith("a file of it is damaged: save.png: ")


def test_what_the_server_refuses_or_cannot_do_fails_once(case):
    batch = case(3, Actor([{"refused": "no such sampler"}, ended("lasting", "3 (X) failed: bad shape")]))
    batch.run()
    assert batch.states == {"job1": "failed", "job2": "failed", "job3": "done"}
    assert batch.errors == {"job1": "no such sampler", "job2": "3 (X) failed: bad shape"}


def test_jobs_of_a_driver_that_was_killed_are_given_again(case):
    batch = case(3, Actor())
    with opened_store(batch.out) as store:
        store.sync(batch.jobs)
        first, second, _ = store.keys("waiting")
        store.queue(first)
        store.queue(second)
        store.made(second, {"save": {"images": []}})
    batch.run()
    assert set(batch.states.values()) == {"done"} and set(batch.tries.values()) == {1}
    check_results(batch, (1, 2, 3))


@pytest.mark.parametrize(("asked", "done"), [(1, 2), (2, 0)])
def test_ctrl_c_lets_the_running_jobs_end_and_twice_puts_them_back(case, asked, done):
    batch = case(5, Actor(turns=3), Actor(turns=3))

    def press() -> None:
        if all(actor.posted for actor in batch.actors):
            batch.stop.count = asked

    batch.ray.on_wait = press
    batch.run()
    states = list(batch.states.values())
    assert states.count("done") == done and states.count("waiting") == 5 - done
    assert sum("finishing the jobs that run" in line for line in batch.said) == (asked == 1)


def test_the_same_workflow_twice_is_one_job_in_two_places(case):
    batch = case(2, Actor())
    batch.jobs = [("job1", workflow(1)), ("job2", workflow(1))]
    batch.run()
    assert batch.actors[0].posted == [1]
    assert sorted(path.name for path in batch.out.iterdir() if path.is_dir()) == ["0001-job1", "0002-job2"]

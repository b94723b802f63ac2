"""The judgement of a watchdog, on a clock set by hand: who is silent, and does any rank make progress?"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sideways.mpi.heartbeat import Beats, Member
from sideways.mpi.launch import patience_of
from sideways.mpi.status import Status


class Job:
    """A judgement made step by step: a watchdog of a job of `ranks` ranks on two hosts, and a clock set by hand."""

    def __init__(self, ranks, own=0, patience=10.0):
        members = [Member(rank, "ab"[rank % 2], 100 + rank) for rank in range(ranks)]
        self.now = 1000.0
        self.beats = Beats(members, own, patience, self.now)

    def pass_time(self, seconds, counts=None, step=0.5):
        """Let time pass, while the ranks in `counts` beat. Returns the first verdict."""
        for _ in range(round(seconds / step)):
            self.now += step
            self.beats.advance(self.now)
            for rank, count in (counts or {}).items():
                self.beats.hear(rank, count() if callable(count) else count, f"tick {rank}")
            if verdict := self.beats.verdict():
                return verdict
        return None


def test_ranks_that_beat_are_left_alone_however_long_they_work_or_wait_for_one_that_works():
    job = Job(3)
    assert job.pass_time(100, {0: 1, 1: 1, 2: 4}) is None  # an odd count: waiting inside MPI; an even count: working


@given(ranks=st.integers(2, 6), data=st.data())
def test_a_silent_rank_is_named_after_patience_and_not_before(ranks, data):
    job, silent = Job(ranks), data.draw(st.integers(1, ranks - 1))
    everyone = {rank: 2 for rank in range(ranks)}
    assert job.pass_time(data.draw(st.integers(1, 30)), everyone) is None
    others = {rank: 2 for rank in range(ranks) if rank != silent}
    assert job.pass_time(9.5, others) is None
    verdict = job.pass_time(1, others)
    host = "ab"[silent % 2]
    assert verdict == (
        f"nothing has been heard for 10 s of rank {silent} on {host} (PID {100 + silent}) [tick {silent}]; "
        "noticed by rank 0 on a (PID 100)"
    )


def test_all_ranks_of_a_host_that_falls_silent_are_named_in_one_message():
    job = Job(6)
    job.pass_time(5, {rank: 2 for rank in range(6)})
    verdict = job.pass_time(30, {0: 2, 2: 2, 4: 2})
    assert [int(rank) for rank in re.findall(r"rank (\d) on b", verdict)] == [1, 3, 5]


def test_without_beats_of_rank_0_each_watchdog_ends_one_after_the_other():
    moments = []
    for own in (1, 2, 3):
        job = Job(4, own)
        job.pass_time(5, {0: 2, own: 2})
        assert "nothing has been heard for 10 s of rank 0 on a (PID 100)" in job.pass_time(30, {own: 2}, step=0.05)
        moments.append(job.now)
    assert moments == sorted(moments) and 0.09 < moments[1] - moments[0] < 0.2


def test_a_stopped_process_is_named_by_its_own_watchdog():
    job = Job(4, own=2)
    job.pass_time(5, {0: 2, 2: 2})
    assert (
        job.pass_time(30, {0: 2}) == "rank 2 on a (PID 102) [tick 2] has been stopped for 10 s, as its watchdog noticed"
    )


def test_when_all_ranks_wait_inside_mpi_and_none_makes_a_step_the_job_ends_with_the_place_of_each():
    job = Job(3)
    steps = iter(range(0, 10000, 2))
    assert job.pass_time(50, {0: 1, 1: 1, 2: lambda: 1 + next(steps)}) is None  # rank 2 still makes steps
    verdict = job.pass_time(30, {0: 1, 1: 1, 2: 10001})
    assert verdict.startswith("no rank has made progress for 10 s: rank 0 on a (PID 100): tick 0; rank 1")


def test_a_standstill_is_no_news_while_some_rank_was_never_heard_of():
    job = Job(3)
    assert job.pass_time(100, {0: 1, 1: 1}) is None
    warning = job.beats.warning()
    assert "no heartbeat has reached rank 0 on a (PID 100) from rank 2 on a (PID 102)" in warning
    assert job.beats.warning() is None  # once


def test_a_rank_that_has_ended_is_not_missed():
    job = Job(3)
    job.pass_time(5, {0: 2, 1: 2, 2: 2})
    job.beats.forget(1)
    assert job.pass_time(100, {0: 2, 2: 2}) is None


@given(gap=st.floats(1, 1e6))
def test_a_watchdog_that_was_stopped_itself_does_not_take_its_absence_for_silence(gap):
    job = Job(2)
    job.pass_time(5, {0: 2, 1: 2})
    job.now += gap
    job.beats.advance(job.now)
    assert job.beats.verdict() is None
    assert job.pass_time(20, {0: 2}) is not None


def test_the_page_tells_how_far_the_rank_is_and_where_it_waits():
    status, descriptor = Status.create()
    reader = Status.of(descriptor)
    assert reader.read() == (0, "start-up")
    status.tick(12)
    status.activity("evaluation")
    status.place_text[:] = "é".encode() * 60
    status.numbers[0] = 7
    assert reader.read() == (7, "tick 12, evaluation, waiting inside MPI for " + "é" * 60)


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ([], 60),
        (["waves", "--patience", "20"], 20),
        (["--patience=5.5", "--lr", "-1"], 5.5),
        (["--patience", "soon"], 60),
        (["--patience", "0"], 60),
        (["--patience", "inf"], 60),
        (["--patience"], 60),
        (["--nonsense", "--pat", "7"], 7),
    ],
)
def test_the_watchdog_reads_the_patience_that_the_rank_will_read(arguments, seconds):
    assert patience_of(arguments) == seconds

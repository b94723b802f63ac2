"""Tests of the watched communicator: it finds memory that is handed to MPI too early, or touched under way."""

import numpy as np
import pytest
from mpi4py import MPI

from double.clock import Hazard, Stream, clock
from double.namespace import cupy


@pytest.fixture
def comm():
    from double.messages import Watched

    requests = []

    class Freed(Watched):
        """A communicator that remembers its requests, so that they can be freed."""

        def Send_init(self, *arguments):  # noqa: N802
            requests.append(super().Send_init(*arguments))
            return requests[-1]

        def Recv_init(self, *arguments):  # noqa: N802
            requests.append(super().Recv_init(*arguments))
            return requests[-1]

    yield Freed(MPI.COMM_SELF)
    for request in requests:
        request.Free()
    clock.finish()


def pinned(count):
    return np.frombuffer(cupy.cuda.alloc_pinned_memory(4 * count), "float32", count)


def test_what_is_received_stands_there_when_the_message_has_come_and_poison_before(comm):
    out, into = pinned(3), pinned(3)
    out[...] = [1, 2, 3]
    sending, receiving = comm.Send_init(out, 0, 1), comm.Recv_init(into, 0, 1)
    receiving.Start()
    assert np.isnan(into).all()
    sending.Start()
    sending.Wait()
    receiving.Wait()
    assert np.array_equal(into, [1, 2, 3])


def test_a_device_array_with_pending_work_is_refused_and_one_that_is_done_travels(comm):
    x, y = cupy.arange(3.0), cupy.empty(3)
    sending, receiving = comm.Send_init(x, 0, 2), comm.Recv_init(y, 0, 2)
    with pytest.raises(Hazard, match="before the host knows that the device is done"):
        receiving.Start()  # what lay in the memory of y before may still be in use
    Stream.null.synchronize()
    receiving.Start()
    x += 1
    with pytest.raises(Hazard, match="before the host knows that the device is done"):
        sending.Start()
    Stream.null.synchronize()
    sending.Start()
    with pytest.raises(Hazard, match="being sent by MPI is touched"):
        x += 1
    with pytest.raises(Hazard, match="being received by MPI is touched"):
        y + 1
    sending.Wait()
    receiving.Wait()
    assert np.array_equal((y + 0).get(), [1, 2, 3])


def test_a_pinned_buffer_that_is_handed_over_before_the_copy_is_there_or_used_again_too_early_is_found(comm):
    x, memory, other = cupy.ones(3, "float32"), pinned(3), pinned(3)
    sending, receiving = comm.Send_init(memory, 0, 3), comm.Recv_init(other, 0, 3)
    receiving.Start()
    side = Stream(non_blocking=True)
    side.wait_event(Stream.null.record())
    x.get(stream=side, out=memory, blocking=False)
    with pytest.raises(Hazard, match="pinned memory is handed to MPI while a copy is under way"):
        sending.Start()
    side.synchronize()
    sending.Start()
    with pytest.raises(Hazard, match="a download into pinned memory that is being sent"):
        x.get(stream=side, out=memory, blocking=False)
    memory[0] = 7
    with pytest.raises(Hazard, match="written into while its message is under way"):
        sending.Wait()
    receiving.Wait()
    side.synchronize()

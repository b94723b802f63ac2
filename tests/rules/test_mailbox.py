"""The mailbox: when a message is due, which messages are dropped, and what a checkpoint takes and gives back."""

import numpy as np
from graphs import networks
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw

EDGES = [("a", "b"), ("a", "c"), ("b", "c")]
TICKS = 12


@st.composite
def mailboxes(draw):
    """Draw a mailbox: for each edge the tick of its first message, 0 … 4, and a delay, 0 … 6, or none."""
    first = {edge: draw(st.integers(0, 4)) for edge in EDGES}
    delays = {edge: draw(st.integers(0, 6)) for edge in draw(st.sets(st.sampled_from(EDGES)))}
    return sw.Mailbox(first, delays)


def message_of(edge, tick):
    """A message that names its edge and its tick."""
    return np.array([EDGES.index(edge), tick])


def run(mailbox, schedule, ticks):
    """Send at every tick on the edges that `schedule` names, and receive on all. Returns (edge, tick) → message."""
    received = {}
    for tick in ticks:
        mailbox.begin(tick)
        for edge in EDGES:
            received[edge, tick] = mailbox.receive(*edge)
        for edge in schedule[tick]:
            mailbox.send(*edge, message_of(edge, tick))
        for edge in EDGES:  # a message that is due stays until the tick is over
            assert mailbox.receive(*edge) is received[edge, tick]
        mailbox.end()
    return received


schedules = st.lists(st.sets(st.sampled_from(EDGES)), min_size=TICKS, max_size=TICKS)  # tick → edges with a message


@given(mailboxes(), schedules)
def test_a_message_is_received_at_its_tick_plus_one_plus_the_delay_of_its_edge_and_at_no_other(mailbox, schedule):
    for (edge, tick), message in run(mailbox, schedule, range(TICKS)).items():
        sent_at = tick - 1 - mailbox.delays.get(edge, 0)
        if sent_at >= mailbox.first_message[edge] and edge in schedule[sent_at]:
            assert np.array_equal(message, message_of(edge, sent_at))
        else:
            assert message is None


@given(mailboxes())
def test_what_is_sent_before_the_first_message_of_an_edge_is_never_received(mailbox):
    received = run(mailbox, [EDGES] * TICKS, range(TICKS))
    for edge in EDGES:
        ticks = [message[1] for tick in range(TICKS) if (message := received[edge, tick]) is not None]
        assert ticks == list(range(mailbox.first_message[edge], TICKS - 1 - mailbox.delays.get(edge, 0)))


@given(mailboxes(), st.integers(0, TICKS))
def test_a_mailbox_that_is_restored_from_what_waits_gives_what_the_first_would_have_given(mailbox, stop):
    everything = [EDGES] * TICKS
    restored = sw.Mailbox(mailbox.first_message, mailbox.delays)
    run(mailbox, everything, range(stop))
    for receiver in ("b", "c"):
        for sender, messages in mailbox.waiting(receiver).items():
            sent_at = [message[1] for message in messages]
            assert sent_at == sorted(sent_at) and sent_at[-1] == stop - 1  # oldest first
            restored.restore(stop, sender, receiver, messages)
    for receiver in ("a", "b", "c"):
        assert restored.waiting(receiver).keys() == mailbox.waiting(receiver).keys()
    expected, received = (run(each, everything, range(stop, TICKS)) for each in (mailbox, restored))
    assert received.keys() == expected.keys()
    assert all(received[key] is expected[key] or np.array_equal(received[key], expected[key]) for key in expected)


@given(mailboxes(), st.integers(1, TICKS))
def test_a_flush_empties_the_mailbox(mailbox, stop):
    run(mailbox, [EDGES] * TICKS, range(stop))
    mailbox.clear()
    assert not any(mailbox.waiting(receiver) for receiver in ("a", "b", "c"))
    received = run(mailbox, [[]] * TICKS, range(TICKS))
    assert all(message is None for message in received.values())


@given(mailboxes())
def test_the_mailbox_of_an_evaluation_shares_no_messages_with_that_of_training(mailbox):
    run(mailbox, [EDGES] * TICKS, range(TICKS))
    apart = mailbox.for_evaluation()
    assert apart.first_message == mailbox.first_message
    assert not any(apart.waiting(receiver) for receiver in ("a", "b", "c"))


@given(networks())
def test_a_network_says_for_every_edge_and_direction_when_its_first_message_is_read(network):
    for sender, receiver in network.first_message:
        upwards = sender in network.units[receiver].inputs
        first_read = network.first_forward[receiver] if upwards else network.first_backward[receiver]
        assert network.first_message[sender, receiver] == first_read - 1

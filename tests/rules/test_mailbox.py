"""The mailbox: which messages it keeps, until when, and what a checkpoint takes and gives back."""

import numpy as np
from graphs import networks
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw

EDGES = [("a", "b"), ("a", "c"), ("b", "c")]
TICKS = 12


@st.composite
def journeys(draw):
    """Draw what travels: (edge, s) → (the tick at which the message is sent, the later tick at which it is read)."""
    sent = {}
    for edge in EDGES:  # at most one message at a tick
        for tick in sorted(draw(st.sets(st.integers(0, TICKS - 2)))):
            sent.setdefault((edge, draw(st.integers(0, tick))), tick)
    return {key: (tick, draw(st.integers(tick + 1, TICKS - 1))) for key, tick in sent.items()}


def mailbox_for(travels):
    """A mailbox whose timetable holds these messages."""
    timetable = {(edge, sent): s for (edge, s), (sent, _) in travels.items()}
    return sw.Mailbox(lambda edge, tick: timetable.get((edge, tick)))


def message_of(edge, s):
    """A message that names its edge and its s."""
    return np.array([EDGES.index(edge), s])


def run(mailbox, travels, ticks):
    """Send and read every message at its ticks. Returns (edge, s) → what was read."""
    read = {}
    for tick in ticks:
        mailbox.begin(tick)
        for (edge, s), (sent, due) in travels.items():
            if due == tick:
                read[edge, s] = mailbox.receive(*edge, s)
            if sent == tick:
                mailbox.send(*edge, message_of(edge, s), s)
        mailbox.end()
    return read


@given(journeys())
def test_every_message_of_the_timetable_is_read_when_its_reader_asks_for_it_and_once(travels):
    mailbox = mailbox_for(travels)
    read = run(mailbox, travels, range(TICKS))
    assert read.keys() == travels.keys()
    assert all(np.array_equal(message, message_of(*key)) for key, message in read.items())
    assert all(mailbox.receive(*edge, s) is None for edge, s in travels)
    assert not any(mailbox.waiting(receiver) for receiver in ("a", "b", "c"))


@given(journeys(), st.sampled_from(EDGES), st.integers(0, TICKS - 1), st.integers(0, TICKS - 1))
def test_a_message_that_is_not_in_the_timetable_is_dropped(travels, edge, tick, s):
    mailbox = mailbox_for(travels)
    mailbox.begin(tick)
    mailbox.send(*edge, message_of(edge, s), s)
    in_timetable = travels.get((edge, s), (None,))[0] == tick
    assert (mailbox.receive(*edge, s) is not None) == in_timetable


@given(journeys(), st.integers(0, TICKS))
def test_a_mailbox_that_is_restored_from_what_waits_gives_what_the_first_would_have_given(travels, stop):
    mailbox, restored = mailbox_for(travels), mailbox_for(travels)
    run(mailbox, travels, range(stop))
    for receiver in ("b", "c"):
        waiting = mailbox.waiting(receiver)
        expected = {(e[0], s) for (e, s), (sent, due) in travels.items() if e[1] == receiver and sent < stop <= due}
        assert waiting.keys() == expected
        restored.restore(receiver, waiting)
    expected, read = (run(each, travels, range(stop, TICKS)) for each in (mailbox, restored))
    assert read.keys() == expected.keys()
    assert all(np.array_equal(read[key], expected[key]) for key in expected)


@given(journeys(), st.integers(1, TICKS))
def test_a_flush_empties_the_mailbox(travels, stop):
    mailbox = mailbox_for(travels)
    run(mailbox, travels, range(stop))
    mailbox.clear()
    assert not any(mailbox.waiting(receiver) for receiver in ("a", "b", "c"))
    assert all(mailbox.receive(*edge, s) is None for edge, s in travels)


@given(journeys())
def test_the_mailbox_of_an_evaluation_shares_no_messages_with_that_of_training(travels):
    mailbox = mailbox_for(travels)
    run(mailbox, travels, range(TICKS // 2))
    apart = mailbox.for_evaluation()
    assert apart.timetable is mailbox.timetable
    assert not any(apart.waiting(receiver) for receiver in ("a", "b", "c"))


@given(networks())
def test_under_sideways_an_edge_carries_every_message_that_is_read_and_no_other(network):
    for sender, receiver in network.first_message:
        upwards = sender in network.units[receiver].inputs
        first_read = network.first_forward[receiver] if upwards else network.first_backward[receiver]
        for tick in range(3 * network.depth):
            expected = tick if tick >= first_read - 1 else None
            assert network.timetable((sender, receiver), tick) == expected


@given(networks(), st.data())
def test_under_delayed_a_gradient_is_sent_before_it_is_read_and_the_last_of_them_in_the_tick_before(network, data):
    marks = network.marks(data.draw(st.integers(1, 2 * network.depth + 2)))
    sent = {}
    for tick in range(6 * network.depth):
        for name, unit in network.units.items():
            if (s := marks.pull(name, tick)) is not None:  # it takes what the consumers have sent for its activation
                came = [sent.pop((c, name, s + 1)) for c in network.consumers[name] if (c, name, s + 1) in sent]
                assert name == network.top.name or max(came) == tick - 1
            for j in (j for j in unit.inputs if j != "frame"):
                if (s := network.timetable((name, j), tick, marks)) is not None:
                    sent[name, j, s] = tick
                assert network.timetable((j, name), tick, marks) == network.timetable((j, name), tick)
    assert all(tick > 3 * network.depth for tick in sent.values())  # nothing waits for ever

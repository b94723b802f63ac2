"""Networks: refusals of wrong graphs and options, the summary, names of parameters, and loading."""

import numpy as np
import pytest

import sideways as sw


def conv(inputs, outputs):
    return sw.Conv2D(inputs, outputs, kernel=3)


def head(channels=4):
    return [sw.GlobalAveragePool(), sw.Dense(channels, 2)]


@pytest.mark.parametrize(
    ("units", "words"),
    [
        (lambda: [], "at least one unit"),
        (lambda: [sw.Unit("frame", [])], "neither 'frame' nor 'adapter'"),
        (lambda: [sw.Unit("conv 1", [])], "letters, digits"),
        (lambda: [sw.Unit("a", [], inputs=[])], "at least one unit or 'frame'"),
        (lambda: [sw.Unit("a", [], inputs=["frame", "frame"])], "each once"),
        (lambda: [sw.Unit("a", [], inputs="frame")], r"such as \['frame'\]"),
        (lambda: [sw.Unit("a", [], merge="mean")], "'add' or 'concat'"),
        (lambda: [sw.Unit("a", ["ReLU"])], "unit 'a': layer 0 is 'ReLU'"),
        (lambda: [sw.Unit("a", head(3)), sw.Unit("a", head(3))], "two units are called 'a'"),
        (lambda: [sw.Unit("a", [conv(3, 4)], ["b"]), sw.Unit("b", head(), ["a"])], "'b' comes later"),
        (lambda: [sw.Unit("a", [conv(3, 4)], ["x"])], "'x' does not exist.*it may read frame"),
        (lambda: [sw.Unit("a", [conv(3, 4)]), sw.Unit("b", head(3))], "'a': no unit consumes it"),
        (lambda: [sw.Unit("a", [conv(1, 4)])], r"unit 'a', layer 0, Conv2D\(1→4, 3×3\): expects 1 channels.*Conv2D\(3"),
        (
            lambda: [
                sw.Unit("a", [conv(3, 4), sw.MaxPool2D(2)]),
                sw.Unit("b", [conv(4, 4)], ["a", "frame"], merge="concat"),
            ],
            r"unit 'b': cannot concatenate a \(4, 4, 4\), frame \(8, 8, 3\).*MaxPool2D",
        ),
        (
            lambda: [sw.Unit("a", [conv(3, 4)]), sw.Unit("b", [conv(4, 4)], ["a", "frame"])],
            r"unit 'b': cannot add a \(8, 8, 4\), frame \(8, 8, 3\).*shapes must be equal",
        ),
        (
            lambda: [sw.Unit("a", [conv(3, 4)]), sw.Unit("b", head(), {"a": [sw.Dense(4, 4)]})],
            r"unit 'b', adapter of 'a', layer 0, Dense",
        ),
        (lambda: [sw.Unit("a", [(relu := sw.ReLU()), relu, *head(3)])], "is used twice"),
    ],
)
def test_a_wrong_graph_is_refused_naming_the_unit_and_what_would_fit(units, words):
    with pytest.raises(sw.InputError, match=words):
        sw.Network(units(), (8, 8, 3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float16"}, "'float32' or 'float64'"),
        ({"input_shape": (8, 0, 3)}, "positive sizes"),
        ({"input_shape": 8}, "positive sizes"),
        ({"units": [sw.ReLU()]}, "made of units"),
    ],
)
def test_wrong_options_of_a_network_are_refused(options, words):
    with pytest.raises(sw.InputError, match=words):
        sw.Network(**{"units": [sw.Unit("a", head(3))], "input_shape": (8, 8, 3)} | options)


def skip_network():
    return sw.Network(
        [
            sw.Unit("conv1", [conv(3, 4), sw.ReLU(), sw.MaxPool2D(2)]),
            sw.Unit("conv2", [conv(4, 4)], ["conv1"]),
            sw.Unit("conv3", [conv(8, 4)], {"conv2": [], "conv1": [sw.Conv2D(4, 4, kernel=1)]}, merge="concat"),
            sw.Unit("head", head(), ["conv3"]),
        ],
        (8, 8, 3),
    )


def test_the_summary_shows_shapes_costs_first_ticks_how_far_gradients_are_out_of_step_and_inputs_kept():
    lines = skip_network().summary().splitlines()
    assert " ".join(lines[1].split()) == "conv1 frame 4×4×4 112 6,912 tick 0 tick 6 4 … 6 7 or 2"
    assert " ".join(lines[3].split()) == "conv3 conv2 ‖ conv1 4×4×4 312 4,864 tick 2 tick 4 2 3 or 1"
    assert " ".join(lines[4].split()) == "head conv3 2 10 8 tick 3 tick 3 0 0"
    assert lines[7] == "kept: the inputs that Delayed keeps of the unit, with learn_every=1 or learn_every=7"
    assert lines[5] == "4 units, depth 4, latency 3 ticks; 582 parameters, 14,088 multiply-adds per frame"


def test_parameters_have_the_documented_names():
    network = skip_network()
    assert list(network.units["conv3"].parameters) == [
        "0.weight",
        "0.bias",
        "adapter.conv1.0.weight",
        "adapter.conv1.0.bias",
    ]
    assert network.units["conv3"].parameters["0.weight"].shape == (3, 3, 8, 4)


def test_a_network_copies_its_units_and_load_writes_into_the_arrays_that_layers_use():
    unit = sw.Unit("a", head(3))
    one, other = sw.Network([unit], (4, 4, 3), seed=1), sw.Network([unit], (4, 4, 3), seed=2)
    frame = np.ones((1, 4, 4, 3), np.float32)
    before = sw.Backprop(one, sw.SoftmaxCrossEntropy()).evaluate(frame[None]).outputs[0]
    other.load(one.parameters)
    after = sw.Backprop(other, sw.SoftmaxCrossEntropy()).evaluate(frame[None]).outputs[0]
    assert np.array_equal(sw.to_host(before), sw.to_host(after))
    for values, words in (
        ({"b": {}}, "no unit 'b'"),
        ({"a": {"0.weight": np.zeros(1)}}, "one of 1.weight, 1.bias"),
        ({"a": {"1.bias": np.zeros(3)}}, r"expected \(2,\)"),
    ):
        with pytest.raises(sw.InputError, match=words):
            other.load(values)

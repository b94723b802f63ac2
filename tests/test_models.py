"""Networks by name: their units and shapes, training of every parameter, and refusals."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sideways import (
    SGD,
    Backprop,
    InputError,
    MeanSquaredError,
    Sideways,
    SoftmaxCrossEntropy,
    to_device,
    to_host,
)
from sideways.models import MODELS, build_model

VGG8 = {  # unit → (output shape for frames of 112×112×3, multiply-adds)
    "conv1": ((56, 56, 64), 9 * 3 * 64 * 112**2),
    "conv2": ((28, 28, 128), 9 * 64 * 128 * 56**2),
    "conv3": ((14, 14, 256), 9 * 128 * 256 * 28**2),
    "conv4": ((7, 7, 256), 9 * 256 * 256 * 14**2),
    "conv5": ((512,), 9 * 256 * 512 * 7**2),
    "dense6": ((512,), 512 * 512),
    "dense7": ((512,), 512 * 512),
    "classifier": ((101,), 512 * 101),
}


@pytest.fixture(scope="module")
def vgg8():
    return build_model("vgg8", (112, 112, 3), 101)


def test_vgg8_is_eight_units_of_64_128_256_256_512_512_512_channels_and_the_classes(vgg8):
    assert {name: (unit.output_shape, unit.multiply_adds) for name, unit in vgg8.units.items()} == VGG8
    assert (vgg8.depth, vgg8.latency) == (8, 7)
    weights = {name: unit.parameters["0.weight"].shape for name, unit in vgg8.units.items()}
    assert weights == {
        "conv1": (3, 3, 3, 64),
        "conv2": (3, 3, 64, 128),
        "conv3": (3, 3, 128, 256),
        "conv4": (3, 3, 256, 256),
        "conv5": (3, 3, 256, 512),
        "dense6": (512, 512),
        "dense7": (512, 512),
        "classifier": (512, 101),
    }


def test_a_skip_edge_of_vgg8_changes_only_the_unit_where_it_ends(vgg8):
    skip = build_model("vgg8-skip", (112, 112, 3), 101)
    assert skip.units["conv4"].inputs == ("conv3", "conv1")
    assert skip.units["conv4"].parameters["0.weight"].shape == (3, 3, 256 + 64, 256)
    assert skip.units["conv4"].multiply_adds == 9 * (256 + 64) * 256 * 14**2
    assert skip.depth == 8
    assert skip.path_lengths["conv1"] == [5, 7]  # along the skip edge, and unit by unit
    for name, unit in vgg8.units.items():
        if name != "conv4":
            for key, array in unit.parameters.items():
                numpy.testing.assert_array_equal(to_host(array), to_host(skip.units[name].parameters[key]))


@pytest.mark.parametrize(
    ("name", "rule"),
    [(name, rule) for name in MODELS for rule in (Sideways, Backprop) if (name, rule) != ("predictor-gated", Backprop)],
)
def test_every_model_ticks_and_every_parameter_of_it_is_trained(name, rule):
    options = {"hidden": (6, 5, 6)} if name.startswith("mlp") else {"width": 4}
    predicts = name.startswith("predictor")
    network = build_model(name, (16, 16, 2), None if predicts else 3, seed=2, dtype="float64", **options)
    before = {unit: {k: a.copy() for k, a in arrays.items()} for unit, arrays in network.parameters.items()}
    teacher = rule(network, MeanSquaredError() if predicts else SoftmaxCrossEntropy(), SGD(0.01))
    random = numpy.random.default_rng(0)
    start, change = random.normal(size=(2, 4, 16, 16, 2))
    late = int(name == "predictor-gated")  # whose last weights start at 0: its first gradient reaches the top alone
    for t in range(2 * network.depth - 1 + late):
        frame = start + t * change if name == "predictor-gated" else random.normal(size=(4, 16, 16, 2))
        tick = teacher.tick(frame, frame if predicts else numpy.array([0, 1, 2, 0]))
    assert tick.output.shape == (frame.shape if predicts else (4, 3))
    assert set(tick.gradients) == set(network.units)
    for unit, arrays in network.parameters.items():
        assert set(tick.gradients[unit]) == set(arrays)
        for key, array in arrays.items():
            assert (to_host(array) != to_host(before[unit][key])).any(), (unit, key)
            assert numpy.isfinite(to_host(array)).all()


@pytest.mark.parametrize("stages", [0, 2, 3, 5])
def test_four_moments_of_the_raw_frame_meet_at_the_top_of_a_gated_predictor_which_repeats_the_newest(stages):
    network = build_model("predictor-gated", (16, 16, 2), None, dtype="float64", stages=stages)
    assert network.depth == max(4, stages + 1)
    assert network.top.inputs == (*(["decode"] if stages else []), "hold3", "hold2", "hold1", "frame")
    rule = Sideways(network, MeanSquaredError())
    frames = numpy.random.default_rng(0).normal(size=(network.depth + 3, 4, 16, 16, 2)).cumsum(axis=0)
    seen, forward = [], network.top.forward

    def watched(inputs, train=True):
        seen.append({name: to_host(inputs[name]).copy() for name in ("hold3", "hold2", "hold1", "frame")})
        return forward(inputs, train)

    network.top.forward = watched
    for frame in frames:
        tick = rule.tick(frame, frame)
    assert numpy.array_equal(to_host(tick.output), frames[-1])
    for age, name in enumerate(("frame", "hold1", "hold2", "hold3")):
        assert numpy.array_equal(seen[-1][name], frames[-1 - age])


def test_without_ticks_a_gated_predictor_has_one_moment_and_nothing_to_learn_from_it():
    network = build_model("predictor-gated", (16, 16, 1), None)
    frame = numpy.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype("float32")
    tick = Backprop(network, MeanSquaredError(), SGD(0.1)).tick(frame, 2 * frame)
    assert numpy.array_equal(to_host(tick.output), frame)
    assert not any(to_host(g).any() for of_unit in tick.gradients.values() for g in of_unit.values())


@pytest.mark.parametrize("moments", [1, 2, 4])
def test_conv1_sees_the_newest_frame_and_the_changes_between_as_many_successive_frames_as_asked_for(moments):
    network = build_model("vgg5-skip", (16, 16, 2), 3, dtype="float64", width=4, moments=moments)
    assert (
        network.depth == 4 + moments and network.units["conv1"].inputs == ("frame", "hold1", "hold2", "hold3")[:moments]
    )
    rule = Sideways(network, SoftmaxCrossEntropy())
    frames = numpy.random.default_rng(0).normal(size=(network.depth + 2, 5, 16, 16, 2))
    seen, conv = [], network.units["conv1"].body.layers[-4]
    assert repr(conv).startswith("Conv2D(")
    forward = conv.forward

    def watched(x, train=True):
        seen.append(to_host(x).copy())
        return forward(x, train)

    conv.forward = watched
    for frame in frames:
        rule.tick(frame, numpy.zeros(5, int))
    newest = frames[::-1]
    parts = [newest[0], *(newest[k - 1] - newest[k] for k in range(1, moments))]
    expected = numpy.concatenate(parts, axis=-1)
    if moments > 1:
        expected = (expected - expected.mean(axis=(0, 1, 2))) / (expected.var(axis=(0, 1, 2)) + 1e-5) ** 0.5
    numpy.testing.assert_allclose(seen[-1], expected, atol=1e-12)


@pytest.mark.parametrize("base", ["mlp", "vgg5", "vgg8"])
def test_the_shortcut_control_has_the_depth_of_the_chain_and_no_other_edges(base):
    chain = build_model(base, (32, 32, 1), 4)
    control = build_model(f"{base}-shortcut", (32, 32, 1), 4)
    assert list(control.units) == list(chain.units)
    assert (control.depth, control.latency) == (chain.depth, chain.latency)
    previous = "frame"
    for name, unit in control.units.items():
        assert unit.inputs == (previous,)
        assert unit.output_shape == chain.units[name].output_shape
        previous = name
    assert control.path_lengths == chain.path_lengths
    more = sum(a.size for arrays in control.parameters.values() for a in arrays.values())
    assert more > sum(a.size for arrays in chain.parameters.values() for a in arrays.values())


@pytest.mark.parametrize(
    "skip", ["conv1>conv3,frame>conv4", ["conv1>conv3", "frame>conv4"], [" conv1 > conv3", "frame>conv4"]]
)
def test_skip_edges_are_written_as_a_list_or_with_commas(skip):
    network = build_model("vgg5-skip", (16, 16, 1), 4, skip=skip, width=4)
    assert {name: unit.inputs for name, unit in network.units.items()} == {
        "conv1": ("frame",),
        "conv2": ("conv1",),
        "conv3": ("conv2", "conv1"),
        "conv4": ("conv3", "frame"),
        "head": ("conv4",),
    }


@pytest.mark.parametrize(("merge", "channels", "projection"), [("concat", 4 + 1, False), ("add", 4, True)])
def test_an_edge_between_different_shapes_is_pooled_and_for_add_projected(merge, channels, projection):
    network = build_model("vgg5-skip", (16, 16, 1), 4, skip="frame>conv4", merge=merge, width=4)
    unit = network.units["conv4"]
    assert unit.merged_shape == (8, 8, channels)
    assert unit.parameters["0.weight"].shape == (3, 3, channels, 8)
    adapter = {key: array.shape for key, array in unit.parameters.items() if key.startswith("adapter.")}
    assert adapter == ({"adapter.frame.1.weight": (1, 1, 1, 4), "adapter.frame.1.bias": (4,)} if projection else {})


@given(st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_the_classifier_sees_the_mean_of_each_cell_of_the_image(cells, seed):
    network = build_model("vgg5", (16, 16, 1), 3, seed=seed, dtype="float64", width=2, cells=cells)
    image = numpy.random.default_rng(seed).normal(size=(2, 8, 8, 4))
    tick = network.units["head"]
    means = image.reshape(2, cells, 8 // cells, cells, 8 // cells, 4).mean(axis=(2, 4)).reshape(2, -1)
    weight, bias = (to_host(value) for value in tick.parameters.values())
    output, _ = tick.body.forward(to_device(image), train=False)
    numpy.testing.assert_allclose(to_host(output), means @ weight + bias, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("merge", ["add", "concat"])
@pytest.mark.parametrize("skip", ["conv1>classifier", "conv2>dense7", "frame>conv5", "conv5>classifier"])
def test_any_edge_upwards_over_a_unit_fits(skip, merge):
    network = build_model("vgg8-skip", (35, 50, 3), 5, skip=skip, merge=merge, width=2)
    source, consumer = skip.split(">")
    assert network.units[consumer].inputs[1] == source
    assert network.output_shape == (5,)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("vgg9", {}, "unknown model 'vgg9': choose one of mlp, mlp-skip, mlp-shortcut, vgg5"),
        ("vgg5", {"skip": "conv1>conv4"}, "model 'vgg5' has no option 'skip'; it has width, norm, merging, pool"),
        (
            "vgg5-skip",
            {"shortcut": True},
            "has no option 'shortcut'; it has width, norm, merging, pool, middle, cells, moments, frame, skip",
        ),
        ("vgg5-skip", {"skip": "conv1"}, "a skip edge is written 'conv1>conv4', not 'conv1'"),
        ("vgg5-skip", {"skip": "conv4>conv1"}, "skip edge conv4>conv1: it must jump over at least one unit, upwards"),
        ("vgg5-skip", {"skip": "conv1>conv2"}, "skip edge conv1>conv2: it must jump over at least one unit, upwards"),
        ("vgg5-skip", {"skip": "conv0>conv4"}, "of frame, conv1, conv2, conv3, conv4, head"),
        ("vgg5-skip", {"skip": "conv1>conv4,conv1>conv4"}, "skip edge conv1>conv4 is listed twice"),
        ("vgg5-skip", {"skip": 3}, "skip must be a string or a list, each entry a string, not 3"),
        ("vgg5-skip", {"merge": "multiply"}, "unknown merge 'multiply'; choose 'add' or 'concat'"),
        ("vgg5", {"cells": 0}, "model 'vgg5': cells must be at least 1 (the whole image), not 0"),
        ("vgg5", {"cells": 3}, "the last image has 4×4 pixels, which 3 × 3 cells do not divide evenly"),
        ("vgg5", {"merging": "sine"}, "unknown activation 'sine': choose one of relu, tanh, square"),
        ("vgg5", {"width": 0}, "at least one channel"),
        ("vgg5", {"width": "wide"}, "model 'vgg5': width must be a whole number, not 'wide'"),
        ("vgg5", {"moments": 0}, "model 'vgg5': moments must be 1 … 1000, not 0"),
        ("mlp", {"hidden": [8, 0]}, "at least one feature"),
        ("mlp", {"hidden": 8}, "hidden must be a list, each entry a whole number, not 8"),
        ("vgg8", {}, "frames of (8, 8, 1) do not suit this model: unit 'conv4'"),
        ("vgg5", {"dtype": "float16"}, "unknown dtype 'float16': choose 'float32' or 'float64'"),
        ("vgg5", {"classes": 0}, "at least one class, not 0"),
        ("vgg5", {"classes": None}, "outputs classes: to predict frames choose predictor"),
        ("predictor-gated", {"classes": None, "stages": 1}, "stages must be 0, or 2 … 1000 units, not 1"),
        ("predictor-gated", {"classes": None, "skip": "frame>predict"}, "no option 'skip'"),
        ("predictor-gated", {"classes": None, "window": 0}, "a window of one pixel"),
        ("predictor-skip", {}, "outputs frames: it needs a horizon of at least 1"),
        ("predictor", {"classes": None, "input_shape": (9, 8, 1)}, "use an even height and width"),
    ],
)
def test_what_is_no_model_is_refused(name, options, words):
    with pytest.raises(InputError) as refusal:
        build_model(name, **({"input_shape": (8, 8, 1), "classes": 4} | options))
    assert words in str(refusal.value)

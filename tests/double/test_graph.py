"""A tick as a CUDA graph: what is recorded once and launched is what `Sideways` does, tick by tick, bit for bit."""

from functools import partial

import numpy as np
import pytest
from graphs import cases, copied, equal
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw
from double.clock import Hazard, Stream, clock
from double.namespace import cupy
from sideways.backend import blas, matmul, streams
from sideways.backend.blas import Recorder
from sideways.backend.streams import Graph, compute_in, own_stream
from sideways.commands.main import main
from sideways.models import build_model
from sideways.rules.graphed import GraphedSideways
from sideways.rules.state import restore_unit, unit_state
from sideways.training.prefetch import Prefetch


@pytest.fixture(autouse=True)
def cupys_first_stream_after_the_test():
    yield
    clock.finish()
    Stream.null.use()


OPTIMIZERS = [
    sw.SGD(0.05, momentum=0.5, schedule=lambda tick: 1 / (1 + tick)),
    sw.Adam(1e-2, schedule=lambda tick: 0.9**tick),
    sw.Adam(1e-2, nesterov=True, clip_norm=1.0, weight_decay=1e-3),
    sw.RMSProp(1e-3, orthogonal=0.9),
]


def trained(kind, network, loss, optimizer, options, clips):
    """Train on clips. Returns the losses and outputs of all ticks, and the parameters and statistics."""
    own = sw.Network(list(network.units.values()), network.input_shape, network.seed, network.dtype)
    rule = kind(own, loss, optimizer, **options)
    prefetch, results = Prefetch(rule), []
    for frames, targets in clips:
        for _, frame, target in prefetch.pairs(frames, targets):
            tick = rule.tick(frame, target, prefetch.fetch)
            results += [] if tick.loss is None else [tick.loss, tick.output]
        rule.end_clip()
    return [array.get() for array in results], copied(own.parameters), copied(own.state), rule


@given(cases(), st.sampled_from(OPTIMIZERS), st.sampled_from([1, "clip"]), st.sampled_from(["flush", "stream"]))
def test_a_graphed_run_has_the_bits_of_sideways(case, optimizer, every, boundary):
    options = {"update_every": every, "boundary": boundary}
    length = 2 * case.network.depth + 5
    clips = [
        [np.random.default_rng([clip, kind]).permutation(np.resize(whole, (length, *np.shape(whole)[1:])))
         for kind, whole in enumerate((case.frames, case.targets))]
        for clip in range(2)
    ]  # fmt: skip
    one_run = partial(trained, network=case.network, loss=case.loss, optimizer=optimizer, options=options, clips=clips)
    runs = [one_run(kind) for kind in (sw.Sideways, GraphedSideways)]
    (results, *arrays, _), (others, *other_arrays, rule) = runs
    assert len(results) == len(others) and all(map(np.array_equal, results, others))
    assert all(map(equal, arrays, other_arrays))
    assert len(rule.graphs) == 2


def ready(kind=GraphedSideways, **options):
    network = build_model("vgg5-skip", (8, 8, 1), 4, width=4)
    return kind(network, sw.SoftmaxCrossEntropy(), sw.Adam(1e-2), boundary="stream", **options)


def frames_and_labels(count, batch=2, size=8):
    random = np.random.default_rng(0)
    frames = random.normal(size=(count, batch, size, size, 1)).astype("float32")
    return frames, random.integers(0, 3, (count, batch))


def test_a_gated_predictor_is_recorded_too():
    network = build_model("predictor-gated", (8, 8, 1), None, width=2)
    frames = np.random.default_rng(0).normal(size=(14, 2, 8, 8, 1)).cumsum(axis=0).astype("float32")
    clips, options = [(frames[:-2], frames[2:])], {"target_delay": 0, "update_every": 1}
    runs = [
        trained(kind, network, sw.LogMeanSquaredError(), sw.Adam(1e-2), options, clips)
        for kind in (sw.Sideways, GraphedSideways)
    ]
    assert len(runs[0][0]) == 2 * 9 and all(map(np.array_equal, runs[0][0], runs[1][0]))
    assert equal(runs[0][1], runs[1][1]) and len(runs[1][3].graphs) == 2


def test_the_masks_of_dropout_are_those_of_their_own_ticks():
    inner = [sw.Conv2D(2, 2, kernel=3), sw.Dropout(0.5)]
    units = [
        sw.Unit("a", [sw.Conv2D(1, 2, kernel=3), sw.Dropout(0.3), sw.Shortcut(inner)]),
        sw.Unit("b", [sw.Flatten(), sw.Dense(32, 3)], {"a": [sw.Dropout(0.2)]}),
    ]
    network, clips = sw.Network(units, (4, 4, 1)), [frames_and_labels(11, size=4)]
    runs = [
        trained(kind, network, sw.SoftmaxCrossEntropy(), sw.SGD(0.1), {}, clips)
        for kind in (sw.Sideways, GraphedSideways)
    ]
    assert equal(runs[0][1], runs[1][1]) and len(runs[1][3].graphs) == 2


def test_a_graphed_tick_is_one_launch_and_a_few_copies_and_the_host_does_not_wait():
    rule, (frames, labels) = ready(), frames_and_labels(16)
    for frame, label in zip(frames, labels, strict=True):
        clock.journal = []
        with clock.counted() as counts:
            rule.tick(frame, label)
        works, clock.journal = [work for work, *_ in clock.journal], None
    assert works.count("a graph") == 1 and len(works) <= 9
    assert not counts["synchronise"] and not counts["download"]


def test_a_checkpoint_in_mid_stream_goes_on_with_graphs_or_without_to_the_same_bits():
    frames, labels = frames_and_labels(24)
    first = ready()
    for frame, label in zip(frames[:13], labels[:13], strict=True):
        first.tick(frame, label)
    saved = {name: unit_state(first, name) for name in first.network.units}
    saved = {
        name: {key: value if isinstance(value, int) else value.get() for key, value in entries.items()}
        for name, entries in saved.items()
    }
    ends = []
    for kind in (None, GraphedSideways, sw.Sideways):
        rule = first
        if kind:
            rule = ready(kind)
            rule.clock = rule.ticks = 13
            for name, entries in saved.items():
                restore_unit(rule, name, entries)
        for frame, label in zip(frames[13:], labels[13:], strict=True):
            rule.tick(frame, label)
        ends.append(copied(rule.network.parameters))
    assert equal(ends[0], ends[1]) and equal(ends[0], ends[2])


def test_what_a_graph_cannot_do_is_refused(monkeypatch):
    for options, message in (
        ({"update_every": 3}, "update_every must be 1 or 'clip'"),
        ({"units": ["conv1"]}, "without mpirun"),
    ):
        with pytest.raises(sw.InputError, match=message):
            ready(**options)
    with pytest.raises(sw.InputError, match="update_every must be 1 or 'clip'"):
        GraphedSideways(build_model("vgg5", (8, 8, 1), 4, width=4), sw.SoftmaxCrossEntropy(), sw.SGD(0.1), 3)
    monkeypatch.setattr(cupy.cuda.runtime, "is_hip", True)
    with pytest.raises(sw.InputError, match="needs NVIDIA's GPUs"):
        ready()
    sw.use_backend("numpy")
    with pytest.raises(sw.InputError, match="needs a GPU"):
        ready()


def test_the_double_records_work_and_does_it_at_each_launch_alone():
    compute_in(own_stream())
    x, graph = cupy.ones(3, "float32"), Graph(Recorder())
    with graph.recorded():
        x *= 2
        y = x + 1
    assert np.array_equal(x.get(), [1, 1, 1])
    for expected in (2, 4):
        graph.launch()
        assert np.array_equal(x.get(), [expected] * 3) and np.array_equal(y.get(), [expected + 1] * 3)
    for forbidden in (x.get, partial(cupy.asarray, np.ones(3)), lambda: float(x[0])):
        with pytest.raises(Hazard), Graph(Recorder()).recorded():
            forbidden()
    Stream.null.use()
    with pytest.raises(Hazard, match="null stream"), Graph(Recorder()).recorded():
        pass


@given(
    st.integers(0, 999),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.sampled_from([((), ()), ((3,), (3,)), ((), (3,)), ((3,), ()), ((1,), (1,))]),
    st.tuples(*[st.sampled_from(["rows", "columns", "gaps"])] * 2),
    st.sampled_from(["float32", "float64"]),
)
def test_a_recorded_product_is_that_of_numpy_however_the_matrices_lie(seed, sizes, batches, layouts, dtype):
    random, (m, k, n) = np.random.default_rng(seed), sizes
    shapes = (*batches[0], m, k), (*batches[1], k, n)
    values = [random.integers(-9, 9, shape).astype(dtype) for shape in shapes]
    x, y = (laid_out(cupy.asarray(value), layout) for value, layout in zip(values, layouts, strict=True))
    compute_in(own_stream())
    graph, out = Graph(Recorder()), cupy.empty((*(batches[0] or batches[1]), m, n), dtype)
    with graph.recorded():
        graph.recorder.product(x, y, out, in_tf32=False)
    assert np.isnan(out.get()).all()
    graph.launch()
    assert np.array_equal(out.get(), values[0] @ values[1])


def laid_out(array, layout):
    """The same values, row after row in memory, column after column, or with gaps between them."""
    if layout == "columns":
        return cupy.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "gaps":
        array = cupy.repeat(array, 2, axis=-1)[..., ::2]
    return array


def test_a_product_of_other_shapes_or_dtypes_is_refused_or_right():
    compute_in(own_stream())
    recorder, random = Recorder(), np.random.default_rng(0)
    x, y = (random.integers(-9, 9, shape).astype("float32") for shape in ((3, 2, 4), (1, 4, 5)))
    out = cupy.empty((3, 2, 5), "float32")
    with recorder.active():
        recorder.product(cupy.asarray(x), cupy.asarray(y), out, in_tf32=False)
        assert np.array_equal(out.get(), x @ y)  # one matrix for each of the batch
        for shape, dtype in (((4, 5), "float64"), ((3, 5), "float32"), ((1, 1, 4, 5), "float32"), ((4, 5), "float16")):
            with pytest.raises(AssertionError):
                recorder.product(cupy.asarray(x), cupy.zeros(shape, dtype), out, in_tf32=False)


def test_an_error_of_cublas_ends_the_recording_and_the_next_one_works():
    compute_in(own_stream())
    recorder, x = Recorder(), cupy.ones((2, 2), "float32")
    graph = Graph(recorder)
    with pytest.raises(Exception, match="CUBLAS_STATUS_INTERNAL_ERROR"), graph.recorded():
        recorder.product(x, x, x, in_tf32=False)  # writes over its factors
    clock.broken.clear()
    assert clock.graph is None and blas.recorder() is None and not hasattr(graph, "graph")
    with graph.recorded():
        y = matmul(x, x)
    graph.launch()
    assert np.array_equal(y.get(), [[2, 2], [2, 2]])


def test_a_recorded_product_needs_its_recorder_as_long_as_the_graph_lives():
    compute_in(own_stream())
    x, graph = cupy.ones((2, 2), "float32"), Graph(Recorder())
    with graph.recorded():
        matmul(x, x)
    graph.launch()
    del graph.recorder
    with pytest.raises(Hazard, match="handle or the workspace"):
        graph.launch()


def test_a_pool_of_a_graph_gives_nothing_back_when_memory_runs_out(monkeypatch):
    class OutOfMemoryError(Exception):
        pass

    def malloc(size):
        raise OutOfMemoryError("out of memory")

    monkeypatch.setattr(cupy.cuda.runtime, "CUDARuntimeError", OutOfMemoryError, raising=False)
    monkeypatch.setattr(cupy.cuda, "Memory", malloc)
    with pytest.raises(MemoryError, match="1,024 bytes for a CUDA graph: out of memory"):
        streams._memory(1024)


def test_with_another_stream_cupy_forgets_the_stream_in_use_and_the_rule_goes_back_to_its_own():
    rule, expected = ready(), ready(sw.Sideways)
    for t, (frame, label) in enumerate(zip(*frames_and_labels(14), strict=True)):
        if t % 3 == 0:
            with clock.current:
                pass
            assert clock.current is Stream.null
        ticks = [one.tick(frame, label) for one in (rule, expected)]
        if ticks[1].loss is not None:
            assert ticks[0].loss.get() == ticks[1].loss.get()
        clock.finish()
    assert len(rule.graphs) == 2


def test_batches_of_several_sizes_have_graphs_of_their_own():
    sizes = (2, 3, 2, 3, 2)
    random = np.random.default_rng(1)
    clips = [(random.normal(size=(16, n, 8, 8, 1)).astype("float32"), random.integers(0, 4, (16, n))) for n in sizes]
    network = build_model("vgg5-skip", (8, 8, 1), 4, width=4)
    one_run = partial(trained, network=network, loss=sw.SoftmaxCrossEntropy(), optimizer=sw.Adam(1e-2), clips=clips)
    (results, *arrays, _), (others, *other_arrays, rule) = (
        one_run(kind, options={}) for kind in (sw.Sideways, GraphedSideways)
    )
    assert len(rule.graphs) == 4 and all(map(np.array_equal, results, others))
    assert all(map(equal, arrays, other_arrays))


def test_a_run_with_graphs_is_a_run_without_and_is_evaluated_without_a_gpu(tmp_path):
    options = ["waves-skip", "--clips", "2", "--batch", "2", "--evaluation-clips", "1", "--set", "task_options.size=8"]
    options += ["--backend", "cupy", "--runs", str(tmp_path)]
    for name, more in (("graphs", ["--cuda-graph"]), ("ticks", [])):
        assert main(["train", *options, *more, "--name", name]) == 0
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("graphs", "ticks")]
    assert metrics[0] == metrics[1]
    with np.load(tmp_path / "graphs/parameters.npz") as one, np.load(tmp_path / "ticks/parameters.npz") as other:
        assert all(np.array_equal(one[key], other[key]) for key in other.files)
    assert main(["evaluate", str(tmp_path / "graphs"), "--backend", "numpy"]) == 0


def test_a_run_that_no_graph_can_hold_is_refused(capsys):
    for options, message in (
        (["--backend", "numpy"], "cuda_graph needs a GPU"),
        (["--backend", "cupy", "--rule", "delayed"], "cuda_graph goes with rule 'sideways'"),
        (["--backend", "cupy", "--update-every", "2"], "update_every must be 1 or 'clip'"),
    ):
        assert main(["train", "waves-skip", "--cuda-graph", *options]) == 2
        assert message in capsys.readouterr().err

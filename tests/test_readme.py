"""The README: its twenty lines are the tutorial's and compute what the library computes; its links lead to files."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sideways as sw

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
WITH_THE_TICK = pytest.mark.parametrize("page", ["README.md", "docs/index.md"])


def python_block(page):
    """The only block of Python code in a page."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return code


def chain(depth, width, seed):
    """A network of `depth` units of one matrix and a tanh."""
    names = ["frame", *(f"unit{i}" for i in range(1, depth + 1))]
    units = [
        sw.Unit(name, [sw.Dense(width, width, init="glorot"), sw.Tanh()], inputs=[below])
        for below, name in pairwise(names)
    ]
    return sw.Network(units, input_shape=(width,), seed=seed, dtype="float64")


@WITH_THE_TICK
def test_the_code_of_the_page_is_the_code_of_the_tutorial(page):
    cells = json.loads((ROOT / "tutorials" / "04_sideways.ipynb").read_text(encoding="utf-8"))["cells"]
    (tutorial,) = [code for cell in cells if (code := "".join(cell["source"])).startswith("def make_tick")]
    assert python_block(page).strip() == tutorial.strip()


def tick_of_the_readme(network, rate):
    """The README's tick on copies of the network's weights, and these copies."""
    namespace = {"np": np}
    exec(compile(python_block("README.md"), str(README), "exec"), namespace)
    weights = [unit.parameters["0.weight"].copy() for unit in network.units.values()]
    return namespace["make_tick"](weights, rate), weights


SIZES = given(depth=st.integers(1, 5), width=st.integers(1, 6), batch=st.integers(1, 3), seed=st.integers(0, 99))


@SIZES
def test_the_code_of_the_readme_gives_the_pseudo_gradients_of_the_library_to_the_last_bit(depth, width, batch, seed):
    network = chain(depth, width, seed)
    tick, _ = tick_of_the_readme(network, rate=0.0)
    rule = sw.Sideways(network, sw.MeanSquaredError())
    frames, targets = np.random.default_rng(seed).normal(size=(2, 2 * depth + 2, batch, width))
    for t, (frame, target) in enumerate(zip(frames, targets, strict=True)):
        (loss, pseudo_gradients), expected = tick(frame, target), rule.tick(frame, target)
        assert {f"unit{i + 1}" for i in pseudo_gradients} == set(expected.gradients)
        assert len(expected.gradients) == min(max(t + 2 - depth, 0), depth)
        assert (loss is None) == (expected.loss is None) == (t < depth - 1)
        assert loss is None or np.isclose(loss, expected.loss, rtol=1e-12)
        for i, gradient in pseudo_gradients.items():
            assert np.array_equal(gradient, expected.gradients[f"unit{i + 1}"]["0.weight"])


@SIZES
def test_the_code_of_the_readme_learns_the_weights_of_the_library_to_the_last_bit(depth, width, batch, seed):
    network = chain(depth, width, seed)
    tick, weights = tick_of_the_readme(network, rate=0.3)
    before = [weight.copy() for weight in weights]
    rule = sw.Sideways(network, sw.MeanSquaredError(), sw.SGD(0.3))
    for frame, target in np.random.default_rng(seed).normal(size=(2 * depth + 4, 2, batch, width)):
        tick(frame, target)
        rule.tick(frame, target)
        for unit in network.units.values():
            unit.parameters["0.bias"][...] = 0  # the README's units have no bias
    for weight, old, unit in zip(weights, before, network.units.values(), strict=True):
        assert np.array_equal(weight, unit.parameters["0.weight"])
        assert not np.array_equal(weight, old)


def test_every_link_and_picture_of_the_readme_leads_to_a_file():
    links = re.findall(r"\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("https://")]
    assert len(local) > 15
    assert [link for link in local if not leads_somewhere(link)] == []


def leads_somewhere(link):
    """Whether the file of a link exists, and has the heading that the link names after a #."""
    path, _, anchor = link.partition("#")
    if not anchor or not (ROOT / path).is_file():
        return (ROOT / path).exists()
    headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_example_of_the_page_of_rules_runs_and_fills_the_network_from_the_top_down(capsys):
    exec(compile(python_block("docs/rules.md"), "docs/rules.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    units_that_ran = [line.count("'") // 2 for line in lines]
    assert units_that_ran == [0, 0, 0, 1, 2, 3, 4, 4, 4]
    assert [line.startswith("None") for line in lines] == [True] * 3 + [False] * 6

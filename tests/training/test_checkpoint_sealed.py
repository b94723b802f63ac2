"""A checkpoint that was changed in any way is refused in a line, and never resumed in silence."""

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sideways import InputError
from sideways.data import Source
from sideways.training import manifest
from sideways.training.build import build_network, build_rule, build_task
from sideways.training.checkpoint import Checkpoints, check, find, listed
from sideways.training.config import Config
from sideways.training.manifest import read_meta
from sideways.training.run import train
from tests.training.runs import MISSING, TINY, edit, replace_array

pytestmark = pytest.mark.usefixtures("undrawn")
CONFIG = replace(TINY, clips=2, evaluation_clips=1, boundary="stream", checkpoint_every=13, update_every=4)
RULES = {
    "sideways": CONFIG,
    "delayed": replace(CONFIG, rule="delayed", learn_every=3),
    "backprop": replace(CONFIG, rule="backprop", boundary="flush"),
}


@pytest.fixture(scope="module", params=RULES)
def run(request, tmp_path_factory):
    """The config and the directory of a run, whose first checkpoint lies in the middle of a clip."""
    directory = tmp_path_factory.mktemp("run") / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sideways.training.run.finish", lambda *arguments: None)
        train(RULES[request.param], directory)
    return RULES[request.param], directory


def restored(config, step):
    """Restore a fresh rule from a checkpoint."""
    task = build_task(config)
    rule = build_rule(config, task, build_network(config, task.frame_shape, len(task.classes)))
    with Source(task, config.batch) as source:
        Checkpoints(step.parent.parent, config, source).load(step, rule)
    return rule


def copy_of(run, tmp_path_factory):
    """A copy of the run's first checkpoint, alone in a run directory."""
    first = listed(run)[0]
    step = tmp_path_factory.mktemp("copy") / "run" / first.relative_to(run)
    shutil.copytree(first, step)
    return step


def refusal(step, config):
    """The line in which the checkpoint is refused; a traceback or a silent restoration fails the test."""
    with pytest.raises(InputError) as error:
        Config.from_tables(read_meta(find(step))["config"], str(step))
        restored(config, step)
    assert "\n" not in str(error.value) and str(step) in str(error.value)
    return str(error.value)


@settings(max_examples=60)
@given(data=st.data())
def test_whichever_byte_is_changed_and_wherever_a_file_is_cut_the_checkpoint_is_refused(run, tmp_path_factory, data):
    config, directory = run
    step = copy_of(directory, tmp_path_factory)
    path = step / data.draw(st.sampled_from(sorted(path.name for path in step.iterdir())), label="file")
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1), label="place")
    if data.draw(st.booleans(), label="cut"):
        path.write_bytes(content[:place])
    else:
        content[place] ^= data.draw(st.integers(1, 255), label="bits")
        path.write_bytes(content)
    refusal(step, config)
    shutil.rmtree(step.parent.parent)


ANYTHING = st.one_of(
    st.just(MISSING),
    st.none(),
    st.booleans(),
    st.integers(-(10**7), -1),
    st.integers(10**6, 10**30),
    st.floats(-1e300, -1),
    st.just(float("nan")),
    st.text(max_size=3),
    st.lists(st.integers(-3, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(-3, 3), min_size=1, max_size=2),
)
FIELDS = [*manifest.FIELDS, "new"]


@settings(max_examples=120)
@given(data=st.data())
def test_whichever_field_is_edited_the_checkpoint_is_refused_even_if_all_checksums_are_made_to_match(
    run, tmp_path_factory, data
):
    config, directory = run
    step = copy_of(directory, tmp_path_factory)
    field = data.draw(st.sampled_from(FIELDS), label="field")
    value = data.draw(ANYTHING, label="value")
    before = json.loads((step / "meta.json").read_text())
    edit(step, **{field: value})
    harmless = (  # another time, say, contradicts nothing; another fingerprint of the data is a warning
        (field == "evaluate" and isinstance(value, bool))
        or (field in ("metrics_bytes", "given", "seconds") and type(value) is int and value >= 0)
        or (field == "data" and type(value) is int)
    )
    same = (field == "new" and value is MISSING) or (field != "new" and before[field] == value)
    if not same and not harmless:
        refusal(step, config)
    shutil.rmtree(step.parent.parent)


@settings(max_examples=100)
@given(data=st.data())
def test_whichever_array_is_replaced_the_checkpoint_is_refused_even_if_all_checksums_are_made_to_match(
    run, tmp_path_factory, data
):
    config, directory = run
    step = copy_of(directory, tmp_path_factory)
    unit = data.draw(st.sampled_from(sorted(path.stem for path in step.glob("*.npz"))), label="unit")
    with np.load(step / f"{unit}.npz") as file:
        arrays = dict(file)
    key = data.draw(st.sampled_from([*sorted(arrays), "message.3.conv1", "new"]), label="key")
    array = arrays.get(key, np.zeros(1))
    wrong = [np.ones((1, *array.shape), array.dtype), array.astype(complex), np.array("text"), np.zeros(0)]
    if array.ndim:
        wrong += [array[..., :-1], np.ones((1,) * array.ndim, array.dtype)[..., None]]
    if key in arrays:
        wrong.append(None)
    replace_array(step, unit, key, wrong[data.draw(st.integers(0, len(wrong) - 1), label="array")])
    refusal(step, config)
    shutil.rmtree(step.parent.parent)


def test_a_checkpoint_that_nobody_changed_is_restored(run):
    config, directory = run
    for step in listed(directory):
        check(step)
        assert restored(config, step).ticks == int(step.name[-8:])


def test_everybody_can_verify_a_checkpoint_with_sha256sum(run):
    _, directory = run
    step = listed(directory)[0]
    meta = json.loads((step / "meta.json").read_text())
    lines = subprocess.run("sha256sum *.npz", shell=True, cwd=step, capture_output=True, text=True).stdout.splitlines()
    assert meta["files"] == {name: digest for digest, name in map(str.split, lines)}
    command = """sed -z 's/,\\n  "sha256": "[0-9a-f]*"\\n}$/\\n}/' meta.json | sha256sum"""
    assert (
        meta["sha256"]
        == subprocess.run(command, shell=True, cwd=step, capture_output=True, text=True).stdout.split()[0]
    )
    text = re.sub(r',\n  "sha256": "\w*"\n}$', "\n}", (step / "meta.json").read_text())
    assert hashlib.sha256(text.encode()).hexdigest() == meta["sha256"]

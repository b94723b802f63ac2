"""Whatever the options of a run hold, they give a config or a refusal in one line, and never a traceback."""

import contextlib
import io

import pytest
from command_line import refused
from hypothesis import given
from hypothesis import strategies as st

from sideways.commands.main import main
from sideways.training.build import build_optimizer
from sideways.training.config import Config
from sideways.training.options import SETTINGS
from sideways.training.recipes import recipe_names
from sideways.validation import one_line

FLAGS = [f"--{name.replace('_', '-')}" for name in SETTINGS] + [
    "--data", "--split", "--lr", "--optimizer", "--update-every", "--name", "--seeds", "--processes", "--resume",
]  # fmt: skip
TABLES = ("", "model_options.", "task_options.", "optimizer.", "schedule.", "rates.", "nonsense.")
KEYS = (*Config.__dataclass_fields__, "width", "size", "length", "speed", "learning_rate", "name", "conv1", "warm_up")
# An argument of a process holds any bytes but 0; Python reads those that are not UTF-8 as surrogates.
characters = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.integers(0xDC80, 0xDCFF).map(chr)
)
numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([10**9, 2**63, -(2**63), 10**400, "9" * 5000, "0x" + "f" * 5000])
)
texts = st.one_of(
    st.text(characters, max_size=20),
    numbers.map(str),
    st.sampled_from(
        ["²", "٣", "clip", "true", "", "-", "'", "[" * 3000, "{a=" * 2000, "1979-05-27", "[1, 'a']", "\n", "nan"]
    ),
    st.integers(1, 3000).map(lambda depth: "[" * depth + "]" * depth),
)
assignments = st.builds(
    lambda table, key, value: f"{table}{key}={value}",
    st.sampled_from(TABLES),
    st.one_of(st.sampled_from(KEYS), st.text(characters, max_size=5)),
    texts,
)
options = st.one_of(
    st.tuples(st.sampled_from(FLAGS), texts).map(lambda pair: [f"{pair[0]}={pair[1]}"]),
    assignments.map(lambda assignment: [f"--set={assignment}"]),
)


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """A function that runs `sideways train` up to the config: returns the configs, the exit code and the errors."""
    jobs, folder = [], tmp_path_factory.mktemp("runs")

    def train(given_jobs, *rest):
        for config, _ in given_jobs:
            build_optimizer(config, 1)
            jobs.append(config)
        return []

    def run(*arguments):
        jobs.clear()
        errors = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,  # for this call alone: other tests here do train
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            patch.chdir(folder)
            patch.setattr("sideways.training.several.train_many", train)
            patch.setattr("sideways.commands.train._print_results", lambda names, results: None)
            try:
                code = main(["train", *arguments])
            except SystemExit as stop:
                code = stop.code
        return list(jobs), code, errors.getvalue()

    return run


@given(st.sampled_from(["", *recipe_names()]), st.lists(options, min_size=1, max_size=3))
def test_any_options_give_a_config_or_a_line(configs, recipe, chosen):
    made, code, errors = configs(*([recipe] if recipe else []), *[part for option in chosen for part in option])
    if code == 0:
        assert made and errors == ""
    else:
        assert code == 2
        assert len(errors.splitlines()) == 1, errors
        assert errors.startswith("sideways")
        errors.encode("utf-8")  # any terminal can show it


def test_the_recipe_follows_from_the_data_if_none_is_named(configs, tmp_path):
    for name in ("train/a/0.avi", "test/a/0.avi"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    rules = {data: configs(*data)[0][0].rule for data in ((), ("--data", f"folder:{tmp_path}"))}
    assert list(rules.values()) == ["sideways", "delayed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--update-every", "²"], "update_every must be a positive number of ticks or 'clip', not '²'"),
        (["--split", "²"], "--split must be the number of a split, or all, not '²'"),
        (["--batch", "9" * 5000], "argument --batch: a whole number below 2**63 is wanted, not '9999"),
        (["--batch", "9" * 4000], "argument --batch: a whole number below 2**63 is wanted, not '9999"),
        (["--set", f"clips={'9' * 5000}"], "holds a number that is too long, or lists that are nested too deeply"),
        (
            ["--set", f"clips=0x{'f' * 5000}"],
            "clips: whole numbers must be below 2**63, not a whole number of about 6,021",
        ),
        (["--set", f"rates.conv1=0x{'f' * 5000}"], "rates.conv1: whole numbers must be below 2**63"),
        (
            ["--set", f"task_options.x={'[' * 3000}"],
            "holds a number that is too long, or lists that are nested too deeply",
        ),
        (["--name", "\udcff"], r"--name is the name of a folder to make in runs, not '\udcff'"),
        (["--name", "a\nb"], r"--name is the name of a folder to make in runs, not 'a\nb'"),
        (["--data", "folder:\udcff"], "there is no folder"),
        (["--recipe\udcff"], "unrecognized arguments"),
        (["\udcff.toml"], "cannot read the recipe"),
        (["--resume", "\udcff"], "no such folder"),
        (["--workers", "1000000"], "workers must be at most 1024, not 1000000"),
        (["--seeds", "1000000000"], "--seeds must be at most 10000, not 1000000000"),
    ],
    ids=lambda value: "".join(c for c in str(value)[:40] if c.isascii() and c.isprintable()),
)
def test_numbers_names_and_nesting_beyond_sense_are_refused_in_a_line(command, tmp_path, arguments, words):
    answer = command("train", *arguments)
    refused(answer, words)
    assert len(answer[2].splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ending", "text"), [("toml", "clips = " + "[" * 5000), ("json", "[" * 100000)])
def test_a_recipe_that_is_nested_too_deeply_is_refused_in_a_line(command, tmp_path, ending, text):
    (tmp_path / f"deep.{ending}").write_text(text)
    refused(command("train", f"deep.{ending}"), f"the recipe deep.{ending} is nested too deeply")


@given(st.text(st.characters()))
def test_a_message_is_one_line_that_any_terminal_can_show(text):
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    line.encode("utf-8")

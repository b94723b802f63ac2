"""Recipes: variants in one file, recipes that extend another, and files of one's own."""

import re
from pathlib import Path

import pytest

from sideways.errors import InputError
from sideways.models import build_model
from sideways.training.recipes import PACKAGE, load_recipe, merge, recipe_names


def test_a_variant_merges_tables_and_replaces_single_values():
    tables = {"model": "vgg5", "task_options": {"size": 16, "speed": 1.0}}
    changes = {"model": "vgg5-skip", "task_options": {"speed": 2.0}, "rates": {"conv1": 0.0}}
    assert merge(tables, changes) == {
        "model": "vgg5-skip",
        "task_options": {"size": 16, "speed": 2.0},
        "rates": {"conv1": 0.0},
    }
    assert tables == {"model": "vgg5", "task_options": {"size": 16, "speed": 1.0}}


def test_each_recipe_of_the_library_belongs_to_one_file():
    files = sorted(PACKAGE.glob("**/recipes/*.toml"))
    variants = [name for path in files for name in re.findall(r"^\[variants\.([\w-]+)\]", path.read_text(), re.M)]
    alone = [path.stem for path in files if is_a_recipe(path)]
    assert len(recipe_names()) == len(variants) + len(alone) > 50
    assert {"which-clip", "ucf101-vgg8", "ucf101-vgg8-skip", "waves-skip", "waves-bare-delayed"} <= {*recipe_names()}


def is_a_recipe(path: Path) -> bool:
    """Whether a summary stands at the top of the file, before its first table."""
    return re.search(r"^summary", path.read_text().partition("\n[")[0], re.M) is not None


def test_a_recipe_that_extends_another_differs_from_it_only_in_what_it_says():
    delayed, plain = load_recipe("waves-bare-delayed"), load_recipe("waves-skip")
    assert delayed["rule"] == "delayed" and delayed["model_options"] == {"norm": False}
    changed = {"summary": "", "rule": "", "model_options": {}}
    assert delayed | changed == plain | changed


def test_whoever_changes_what_was_loaded_changes_no_recipe():
    load_recipe("waves-skip")["task_options"]["speed"] = 9.0
    assert load_recipe("waves-skip")["task_options"]["speed"] == 1.0


def test_a_file_of_ones_own_may_have_variants_and_extend_a_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "pan-skip"\nclips = 3\n[variants.slow]\ntask_options.speed = 0.5\n[variants.fast]\n')
    assert load_recipe(f"{path}:slow")["task_options"] == {"length": 18, "size": 16, "speed": 0.5}
    assert load_recipe(f"{path}:fast") == load_recipe("pan-skip") | {"clips": 3}


@pytest.mark.parametrize(
    ("text", "ending", "words"),
    [
        ("[variants.a]\n[variants.b]", "", r"mine.toml holds several recipes: choose one of .*:a, .*mine.toml:b"),
        ("[variants.a]", ":c", r"mine.toml has no variant 'c': choose one of .*mine.toml:a"),
        ("clips = 3", ":c", r"mine.toml has no variant 'c': choose one of .*mine.toml"),
        ("variants = 3", "", "variants must hold a table for each variant"),
        ("variants.a = 3", ":a", "variants must hold a table for each variant"),
        ('extends = "mine.toml"', "", "extends 'mine.toml', which is no recipe of the library"),
        ("extends = ['waves-skip']", "", "which is no recipe of the library"),
    ],
)
def test_a_file_whose_variants_make_no_sense_is_refused(tmp_path, text, ending, words):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InputError, match=words):
        load_recipe(f"{tmp_path / 'mine.toml'}{ending}")


def test_the_recipes_of_small_sets_share_their_data_and_differ_only_in_network_and_rule():
    names = [name for name in recipe_names() if name.startswith("videos-small-")]
    recipes = {name.removeprefix("videos-small-"): load_recipe(name) for name in names}
    assert set(recipes) == {"skip", "chain", "changes", "delayed", "marked", "bptt", "backprop"}
    differing = ("model", "model_options", "rule", "learn_every", "summary")
    shared = [{key: value for key, value in recipe.items() if key not in differing} for recipe in recipes.values()]
    assert all(tables == shared[0] for tables in shared) and shared[0]["task_options"]["flip"] is False
    marked = recipes["marked"]
    network = build_model(marked["model"], (32, 32, 1), 5, **marked["model_options"])
    assert marked["learn_every"] == 2 * network.depth - 1 <= marked["task_options"]["length"]
    for name in ("chain", "backprop"):  # they see one frame at a time
        assert build_model(recipes[name]["model"], (32, 32, 1), 5, **recipes[name]["model_options"]).depth == 5

"""Complete runs by name: `load_recipe("pan-skip")` is the variant `skip` of the file pan.toml in this folder.

A file holds the settings that its variants share, then what each variant changes. Tables are merged, single values are
replaced:

    task = "pan"
    clips = 300

    [variants.skip]                 the recipe pan-skip
    model = "vgg5-skip"

A file without variants is one recipe. A file with variants is a recipe itself only if a `summary` stands at its top,
as in ucf101-vgg8.toml. `extends = "pan-skip"` starts a file from the settings of that recipe of the library.

The library's recipes lie in all folders of the library that are called `recipes`: recipes that only an experiment needs
stand beside that experiment.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from sideways.errors import InputError

PACKAGE = Path(__file__).parents[2]


def recipe_names() -> list[str]:
    """The names of the library's recipes, sorted."""
    return sorted(_library())


def load_recipe(name: str) -> dict[str, Any]:
    """The tables of a recipe.

    name: a recipe of the library; a file (`my.toml`, or `my.toml:variant` for one variant); a run's config.json.
    Raises `InputError` for an unknown name, for a file that is not TOML or JSON, and for a variant that is not there.
    """
    if name in _library():
        path, variant = _library()[name]
        return _variant(_read(path, name), variant, name)
    path_text, _, variant = name.rpartition(":") if ".toml:" in name else (name, "", "")
    if not path_text.endswith((".toml", ".json")):
        near = get_close_matches(name, recipe_names(), n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"unknown recipe {name!r}: {meant}`sideways recipes` lists all; a file must end in .toml, or be a run's "
            "config.json"
        )
    return _variant(_read(Path(path_text), path_text), variant, path_text)


def merge(tables: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with these changes: a table is merged with the old table, any other value replaces the old one."""
    merged = dict(tables)
    for key, value in changes.items():
        both_tables = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = merged[key] | value if both_tables else value
    return merged


@cache
def _library() -> dict[str, tuple[Path, str]]:
    """Each recipe of the library: name → (its file, its variant; "" for the settings at the file's top)."""
    library = {}
    for path in sorted(PACKAGE.glob("**/recipes/*.toml")):
        tables = _read(path, path.name)
        if "variants" not in tables or "summary" in tables:
            library[path.stem] = path, ""
        for variant in tables.get("variants", {}):
            library[f"{path.stem}-{variant}"] = path, variant
    return library


def _read(path: Path, source: str) -> dict[str, Any]:
    """All tables of a file; `source` names it in errors."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the recipe {source}: {error}") from None
    try:
        tables = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except RecursionError:
        raise InputError(f"the recipe {source} is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError and TOMLDecodeError are both a ValueError
        raise InputError(f"the recipe {source} is not valid {path.suffix[1:].upper()}: {error}") from None
    if not isinstance(tables, dict):
        raise InputError(f"the recipe {source} holds no tables")
    return tables


def _variant(tables: dict[str, Any], variant: str, source: str) -> dict[str, Any]:
    """The settings of one variant of a file ("": its top), merged into the recipe that the file extends."""
    variants, base = tables.pop("variants", {}), tables.pop("extends", None)
    if not isinstance(variants, dict) or not all(isinstance(changes, dict) for changes in variants.values()):
        raise InputError(f"{source}: variants must hold a table for each variant, such as [variants.chain]")
    if not variant and variants and "summary" not in tables:
        raise InputError(f"{source} holds several recipes: choose one of {_choices(source, variants)}")
    if variant and variant not in variants:
        raise InputError(f"{source} has no variant {variant!r}: choose one of {_choices(source, variants) or source}")
    if base is not None:
        if not isinstance(base, str) or base not in _library():
            raise InputError(f"{source} extends {base!r}, which is no recipe of the library; see: sideways recipes")
        tables = merge(load_recipe(base), tables)
    return merge(tables, variants[variant]) if variant else tables


def _choices(source: str, variants: Mapping[str, Any]) -> str:
    return ", ".join(f"{source}:{variant}" for variant in variants)

"""Complete runs by name: `load_recipe("pan-skip")` reads pan-skip.toml beside this file.

It also reads any other TOML file, and the config.json of a run.
"""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from sideways.errors import InputError


def recipe_names() -> list[str]:
    """The recipes that come with the library."""
    return sorted(entry.name[:-5] for entry in resources.files(__name__).iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str) -> dict[str, Any]:
    """The tables of a recipe. Raises `InputError` for an unknown name and for a file that is not TOML."""
    if name in recipe_names():
        text, source = resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"), name
    elif name.endswith((".toml", ".json")):
        source = name
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the recipe {name}: {error}") from None
    else:
        raise InputError(
            f"unknown recipe {name!r}: choose one of {', '.join(recipe_names())}, or give a file ending in .toml, "
            "or a run's config.json"
        )
    try:
        tables = json.loads(text) if name.endswith(".json") else tomllib.loads(text)
    except ValueError as error:  # of either
        raise InputError(f"the recipe {source} is not valid {source.rpartition('.')[2].upper()}: {error}") from None
    if not isinstance(tables, dict):
        raise InputError(f"the recipe {source} holds no tables")
    return tables

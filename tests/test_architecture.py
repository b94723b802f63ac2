"""The layout of the house: who may import whom, how long files and functions may be, and the reader's path to the tick.

`LEVELS` is the contract. A module may import modules of its own entry and of the entries before it, never of a later
one, not even behind `TYPE_CHECKING`; and there are no cycles.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEVELS = [  # each line may import the lines above it
    "sideways.errors sideways.tables sideways.interruption",
    "sideways.doctor",
    "sideways.validation sideways.backend",
    "sideways.machine",
    "sideways.layers sideways.losses sideways.learning_rates",
    "sideways.optimizers",
    "sideways.data",
    "sideways.network",
    "sideways.rules",
    "sideways",  # the public face
    "sideways.wiring",
    "sideways.models sideways.balance sideways.explore",
    "sideways.training.processes sideways.training.progress sideways.training.recipes sideways.training.skvideo_compat",
    "sideways.training.parameters sideways.training.metrics sideways.training.memory sideways.training.prefetch",
    "sideways.training.config",
    "sideways.training.build sideways.training.evaluation",
    "sideways.training.needs",
    "sideways.training.manifest",
    "sideways.training.checkpoint",
    "sideways.training.log sideways.training.options",
    "sideways.training.loop sideways.training.report",
    "sideways.training.run",
    "sideways.training.several",
    "sideways.training",
    "sideways.studies sideways.mpi",
    "sideways.commands",
    "sideways.__main__",
]
APART = [  # pairs that know nothing of each other, although a level would allow it
    ("sideways.data", "sideways.layers"),
    ("sideways.studies", "sideways.mpi"),
    ("sideways.mpi", "sideways.studies"),
    ("sideways.network", "sideways.data"),
    ("sideways.rules", "sideways.data"),
]
ENTRIES = [(name, level) for level, line in enumerate(LEVELS) for name in line.split()]


def level_of(module):
    """The level of the longest entry that the module lies in."""
    name, level = max((entry for entry in ENTRIES if is_in(module, entry[0])), key=lambda entry: len(entry[0]))
    if name == "sideways" and module != "sideways":
        pytest.fail(f"{module} has no place in LEVELS")
    return level


def is_in(module, package):
    return module == package or module.startswith(f"{package}.")


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules():
    """Each module → its source."""
    paths = sorted((ROOT / "sideways").rglob("*.py"))
    return {name_of(path): path.read_text(encoding="utf-8") for path in paths}


def imports(source, top_only=False):
    """The names of modules of this project that a source imports, wherever it does."""
    tree = ast.parse(source)
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom) and node.module in modules():
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            whole = [name for name in submodules if name in modules()]
            yield from whole
            if len(whole) < len(submodules):
                yield node.module


def libraries(source):
    """The top-level names of all that a source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_nothing_from_above_it(module):
    wrong = [other for other in imports(modules()[module]) if level_of(other) > level_of(module)]
    wrong += [
        other
        for one, apart in APART
        if is_in(module, one)
        for other in imports(modules()[module])
        if is_in(other, apart)
    ]
    assert not wrong


def test_there_are_no_cycles_of_imports():
    graph = {module: set(imports(source, top_only=True)) - {module} for module, source in modules().items()}
    finished, under_way = set(), []

    def visit(module):
        assert module not in under_way, " → ".join([*under_way[under_way.index(module) :], module])
        if module not in finished:
            under_way.append(module)
            for other in sorted(graph[module]):
                visit(other)
            finished.add(under_way.pop())

    for module in graph:
        visit(module)


def test_nothing_is_imported_for_type_checkers_alone():
    assert not [module for module, source in modules().items() if re.search(r"^if TYPE_CHECKING", source, re.MULTILINE)]


@pytest.mark.parametrize("package", ["backend", "layers", "network", "rules", "data", "training", "explore"])
def test_inside_a_package_modules_import_each_other_and_not_its_face(package):
    inside = {module: source for module, source in modules().items() if module.startswith(f"sideways.{package}.")}
    assert not [module for module, source in inside.items() if f"sideways.{package}" in imports(source)]


def test_only_the_backend_knows_cupy_and_the_algorithm_computes_through_it():
    assert not [module for module, source in modules().items() if "cupy" in set(libraries(source))]
    for package in ("sideways.network", "sideways.rules", "sideways.optimizers"):
        users = [m for m, source in modules().items() if is_in(m, package) and "numpy" in set(libraries(source))]
        assert users in ([], ["sideways.rules.diagnostics"])  # a measurement on the host


@pytest.mark.parametrize("path", [*ROOT.glob("sideways/**/*.py")], ids=name_of)
def test_a_file_fits_in_one_sitting_and_a_function_on_a_screen(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 350
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert not {name: length for name, length in lengths.items() if length > 60}


def test_the_readers_path_to_the_tick_is_short_and_the_same_in_readme_and_rules():
    path = re.findall(r"^    (sideways/\S+\.py)", modules()["sideways.rules"], re.MULTILINE)
    assert [Path(name).name for name in path] == ["dense.py", "unit.py", "schedule.py", "mailbox.py", "sideways.py"]
    assert sum(len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in path) <= 350
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    places = [readme.find(name.removeprefix("sideways/")) for name in path]
    assert -1 not in places and places == sorted(places)

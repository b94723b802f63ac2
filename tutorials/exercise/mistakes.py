"""The well-known mistakes of solution/mistakes.toml, as programs that make them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

SOLUTION = Path(__file__).parent / "solution"


@dataclass(frozen=True)
class Mistake:
    """A mistake: in the class `inside` of the solution, each first text of `edits` becomes the second."""

    name: str
    step: int  # whose tests catch it
    inside: str
    lesson: str
    edits: list

    def source(self):
        """The text of the solution with this mistake. Raises `ValueError` if a text is not there exactly once."""
        text = (SOLUTION / "my_sideways.py").read_text(encoding="utf-8")
        start = text.index(f"class {self.inside}")
        end = text.find("\nclass ", start) % (len(text) + 1)  # the last class ends with the file
        part = text[start:end]
        for old, new in self.edits:
            if part.count(old) != 1:
                raise ValueError(f"{self.name}: class {self.inside} has {part.count(old)} times the text {old!r}")
            part = part.replace(old, new)
        return text[:start] + part + text[end:]


def load(source, path):
    """Run the text of a student's file as a module. path: the name of the file in error messages."""
    module = ModuleType(Path(path).stem)
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def read_mistakes():
    """All mistakes, in the order of the steps."""
    tables = tomllib.loads((SOLUTION / "mistakes.toml").read_text(encoding="utf-8"))["mistakes"]
    return [Mistake(**table | {"lesson": " ".join(table["lesson"].split())}) for table in tables]

"""The README's example runs as written, and shows what it says."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_example_of_the_readme_runs_and_fills_the_network_from_the_top_down(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(README), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    ran = [line.count("'") // 2 for line in lines]
    assert ran == [0, 0, 0, 1, 2, 3, 4, 4, 4]
    assert [line.startswith("None") for line in lines] == [True] * 3 + [False] * 6

"""What tests of commands share: arguments of a run that takes no time, and what a refusal is."""

QUICK = ["--clips", "2", "--batch", "2", "--evaluation-clips", "1"]
MLP = ["--model", "mlp", "--set", "model_options.hidden=[4]", "--set", "task_options.size=8"]


def refused(answer, words):
    """One or two lines that say this, exit code 2, no traceback."""
    code, out, err = answer
    assert code == 2
    assert out == ""
    assert words in err
    assert 1 <= len(err.splitlines()) <= 2
    assert err.startswith("sideways")
    assert "Traceback" not in err

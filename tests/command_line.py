"""Arguments of a very short run, and the form of a refusal: shared by the tests of commands."""

QUICK = ["--clips", "2", "--batch", "2", "--evaluation-clips", "1"]
MLP = ["--model", "mlp", "--set", "model_options.hidden=[4]", "--set", "task_options.size=8"]


def refused(answer, words):
    """Assert that a command refused its input: exit code 2, these words in one or two lines, no traceback."""
    code, out, err = answer
    assert code == 2
    assert out == ""
    assert words in err
    assert 1 <= len(err.splitlines()) <= 2
    assert err.startswith("sideways")
    assert "Traceback" not in err

"""Run under mpirun: `python undrawn.py …` is `python -m sideways.mpi …` without plots, half the time of a short run."""

import runpy

import sideways.training.report.frames_ahead
import sideways.training.run


def draw_nothing():
    """Let the runs of this process draw no plots."""
    for name in ("plot_run", "plot_confusion"):
        setattr(sideways.training.run, name, lambda *arguments: None)
    sideways.training.report.frames_ahead.plot_prediction = lambda *arguments, **options: None


if __name__ == "__main__":
    draw_nothing()
    runpy.run_module("sideways.mpi", run_name="__main__")

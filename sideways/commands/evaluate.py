"""`sideways evaluate`: a trained network on held-out clips."""

from __future__ import annotations

import argparse

from sideways.backend import BACKENDS, default_backend

HELP = "evaluate a checkpoint on held-out videos: accuracies, each class, confusion"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint, the data and the folder to write."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a run, or one of its checkpoints")
    parser.add_argument("--data", metavar="KIND:PATH", help="other videos of the same classes")
    parser.add_argument("--split", type=int, metavar="N", help="another official split of the data set")
    parser.add_argument("--out", metavar="DIR", help="write evaluation.json and confusion.png into this folder")
    parser.add_argument("--backend", choices=BACKENDS, default=default_backend(), help="where to compute")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate the checkpoint."""
    from sideways.commands.evaluate_checkpoint import evaluate_checkpoint

    evaluate_checkpoint(options.checkpoint, options.data, options.split, options.out, options.backend)

"""`sideways predict`: a trained network on one video."""

from __future__ import annotations

import argparse

from sideways.backend import BACKENDS, default_backend

HELP = "run a checkpoint on one video: classes at each tick, or the frames to come"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint, the video, and the files to write."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a run, or one of its checkpoints")
    parser.add_argument("video", metavar="VIDEO", help="a video file")
    parser.add_argument("--out", metavar="DIR", help="the folder to write (default: predictions/VIDEO)")
    parser.add_argument(
        "--annotated", action="store_true", help="also write a video with the probabilities beside the frames"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="use only the first S seconds of the video")
    parser.add_argument(
        "--roll-out",
        type=int,
        metavar="K",
        help="for a predictor of frames: leave out the last K frames and predict all of them",
    )
    parser.add_argument("--backend", choices=BACKENDS, default=default_backend(), help="where to compute")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the video through the network."""
    from sideways.commands.predict_video import predict_video

    predict_video(
        options.checkpoint,
        options.video,
        options.out,
        options.annotated,
        options.seconds,
        options.roll_out,
        options.backend,
    )

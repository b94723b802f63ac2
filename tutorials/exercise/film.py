"""Your rule on your video: .venv/bin/python tutorials/exercise/film.py my_film.mp4

A crop of 16×16 pixels glides over the film to the right, down, to the left or up; the network is to say in which
direction. No single frame shows it. The film's last third is kept for the test.

Your `SkipSideways` trains the network of the recipe, the library's Sideways a copy of it on the same clips,
and both are compared: parameters to the last bit, and the accuracy on held-out clips.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from cases import arrays_of, equal
from mistakes import load

import sideways as sw
from sideways.training.build import build_network, build_optimizer, build_task
from sideways.training.config import Config
from sideways.training.metrics import accuracy, clip_probabilities, mean_and_spread
from sideways.training.recipes import load_recipe


def train(rule, task, clips, batch):
    """Train on so many clips, and print the mean loss now and then."""
    losses = []
    for number in range(clips):
        clip = task.clip("train", number, batch)
        for frame, target in zip(clip.frames, clip.targets, strict=True):
            losses.append(rule.tick(frame, target).loss)
        rule.end_clip()
        if (number + 1) % max(1, clips // 4) == 0:
            recent = [float(loss) for loss in losses[-200:] if loss is not None]
            print(f"    {number + 1:>4} clips: mean loss {sum(recent) / len(recent):.3f}", flush=True)


def held_out_accuracy(network, task, clips, batch):
    """The accuracy of each held-out clip's mean probabilities, batch by batch."""
    rule, values = sw.Sideways(network, sw.SoftmaxCrossEntropy()), []
    for number in range(clips):
        clip = task.clip("test", number, batch)
        values.append(accuracy(clip_probabilities(rule.evaluate(clip.frames).outputs), clip.targets[-1]))
    return mean_and_spread(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("videos", nargs="+", help="any files that ffmpeg reads")
    parser.add_argument("--recipe", default="pan-skip", help="pan-skip, pan-chain or another recipe of the task pan")
    parser.add_argument("--clips", type=int, default=300, help="batches of 32 clips to train on (default: 300)")
    parser.add_argument("--speed", type=float, default=2.0, help="of the crop, in pixels per frame (default: 2)")
    parser.add_argument("--module", default=str(Path(__file__).parent / "my_sideways.py"), help="your file")
    options = parser.parse_args()
    settings = load_recipe(options.recipe) | {"clips": options.clips}
    settings["task_options"] = settings["task_options"] | {"videos": options.videos, "speed": options.speed}
    config = Config.from_tables(settings, options.recipe)
    mine = load(Path(options.module).read_text(encoding="utf-8"), options.module)
    task = build_task(config)
    ends = []
    for name, rule in (("your SkipSideways", mine.SkipSideways), ("the library's Sideways", sw.Sideways)):
        network = build_network(config, task.frame_shape, len(task.classes))
        optimizer = build_optimizer(config, config.clips * task.length)
        print(f"{name}, {config.model}, {options.clips} clips", flush=True)
        train(rule(network, sw.SoftmaxCrossEntropy(), optimizer, config.update_every), task, config.clips, config.batch)
        mean, spread = held_out_accuracy(network, task, 20, config.batch)
        print(
            f"    held-out accuracy {mean:.3f}, spread over 20 batches {spread:.3f}; chance {1 / len(task.classes):.2f}"
        )
        ends.append(arrays_of(network))
    print("Both end with the same bits." if equal(*ends) else "They do NOT end with the same bits: make exercise")
    task.close()


if __name__ == "__main__":
    main()

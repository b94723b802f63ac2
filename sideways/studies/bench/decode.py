"""`sideways bench decode`: frames decoded per second by 0, 1, 2 … workers, beside the frames that training takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sideways.backend import synchronise
from sideways.data import Source, VideoClips
from sideways.losses import SoftmaxCrossEntropy
from sideways.models import build_model
from sideways.optimizers import SGD
from sideways.rules import Sideways
from sideways.studies.bench.output import print_table, write_json

HEAD = ("", "workers", "frames/s", "of what training takes")


def decode(data: str, workers: Sequence[int], model: str, size: int, batch: int, clips: int, path: str | None) -> None:
    """Decode this many clips of a data set with each number of workers: alone, and while training goes on.

    data: `KIND:PATH`; path: a JSON file for the results.
    """
    task = VideoClips(data=data, size=size, short_side=size + size // 7)
    task.open(("train",))
    results: list[dict[str, Any]] = []
    alone = _trained(task, model, batch, clips, None)
    results.append({"what": "training alone", "workers": 0, "frames_per_second": alone})
    for count in workers:
        with Source(task, batch, workers=count, limits={"train": clips + 1, "test": 0}) as source:
            source.clip("train", 0)  # The first clip waits for the workers to start; it is not timed.
            start = time.perf_counter()
            for index in range(1, clips + 1):
                source.clip("train", index)
            speed = clips * batch * task.length / (time.perf_counter() - start)
        results.append({"what": "decoding alone", "workers": count, "frames_per_second": speed})
    for count in workers:
        with Source(task, batch, workers=count, limits={"train": clips + 1, "test": 0}) as source:
            speed = _trained(task, model, batch, clips, source)
        results.append({"what": "training while decoding", "workers": count, "frames_per_second": speed})
    rows = [
        (r["what"], str(r["workers"]), f"{r['frames_per_second']:.1f}", f"{r['frames_per_second'] / alone:.0%}")
        for r in results
    ]
    print_table(HEAD, rows)
    print(
        f"\n{model}, batches of {batch} frames of {size}×{size}, one BLAS thread; {data}. Training alone is on one clip"
        "\nthat was decoded before. With 0 workers this process decodes between its ticks."
    )
    write_json(path, results)


def _trained(task: VideoClips, model: str, batch: int, clips: int, source: Source | None) -> float:
    """Frames per second of Sideways, on clips that arrive from the source, or on one clip if there is no source."""
    network = build_model(model, task.frame_shape, len(task.classes))
    rule = Sideways(network, SoftmaxCrossEntropy(), SGD(1e-4, momentum=0.9), boundary="stream")
    frames, targets = (source or Source(task, batch)).clip("train", 0)
    for t in range(min(2 * network.depth, task.length)):
        rule.tick(frames[t], targets[t])
    seconds = ticks = 0.0
    for index in range(1, clips + 1):
        start = time.perf_counter()
        if source:
            frames, targets = source.clip("train", index)
        for frame, target in zip(frames, targets, strict=True):
            rule.tick(frame, target)
        synchronise()
        seconds += time.perf_counter() - start
        ticks += len(targets)
    return batch * ticks / seconds

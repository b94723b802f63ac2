"""A process that plays Doom, started by `process.py` as `python -m sideways.data.doom.worker SETTINGS FOLDER`.

SETTINGS are those of `scene.Settings`, in JSON. FOLDER is empty; ViZDoom leaves its files there. Each line of the
standard input is a request in JSON: `{"block": [seed, map, number, places]}` or `{"wander": [seed, maps]}`. The answer
to a block is a line of JSON, then its arrays as an .npz file; the answer to a wander is frame after frame without end.
When the standard input ends, so does this process, with the game.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

import numpy

from sideways.data.doom.process import SHARED
from sideways.data.doom.scene import Game, NoPlaceError, Settings


def main() -> None:
    """Answer requests until the standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C, the run ends its workers itself
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that nothing the game prints comes between the answers
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    settings = Settings(**json.loads(sys.argv[1]))
    os.chdir(sys.argv[2])
    game = Game(settings)
    Path(SHARED).write_text("\n".join(map(str, shared_memory())))
    while True:
        request = requests.get()
        if "wander" in request:
            for frame in game.wander(*request["wander"]):
                output.write(frame.tobytes())
                output.flush()
        _send_block(output, game, request["block"])


def _send_block(output: BinaryIO, game: Game, block: list[Any]) -> None:
    content, problem = io.BytesIO(), ""
    try:
        frames, poses = game.block(*block)
        numpy.savez(content, frames=frames, poses=poses)
    except NoPlaceError:
        problem = (
            f"{block[1]} has no more room for clips of {game.settings.length} frames, {game.settings.tics} tics apart: "
            "choose fewer places, other maps, fewer frames or tics"
        )
    values = content.getvalue()
    output.write(json.dumps({"bytes": len(values), "problem": problem}).encode() + b"\n")
    output.write(values)
    output.flush()


def _read(requests: SimpleQueue[dict[str, Any]]) -> None:
    """Queue the requests; at the end of the standard input, end the process and the game."""
    for line in sys.stdin.buffer:
        requests.put(json.loads(line))
    for part in shared_memory():
        part.unlink(missing_ok=True)
    os.killpg(0, signal.SIGKILL)  # the game too, which would otherwise go on for ever


def shared_memory() -> list[Path]:
    """The shared memory of this process's games, which they leave behind when they are killed."""
    parts = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                words = Path(f"/proc/{child}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                if "+viz_instance_id" in words:
                    instance = words[words.index("+viz_instance_id") + 1]
                    parts += [Path(f"/dev/shm/ViZDoom{part}{instance}") for part in ("MQCtr", "MQDoom", "SM")]
    return parts


if __name__ == "__main__":
    main()

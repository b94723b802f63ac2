"""A live stream from a camera, a film or Doom. The target of each frame is the frame that comes `horizon` later.

Learning therefore runs `horizon` frames behind the camera: when frame x[n] arrives, frame x[n-horizon] goes into the
network, with x[n] as its target.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import chain

import numpy

from sideways.data.doom.process import GameEndedError, GameProcess, check_installed
from sideways.data.doom.scene import LEARNT_FROM, LINES, TICS_PER_SECOND, Settings
from sideways.data.places import located
from sideways.data.task import SPLITS, Clip, Task
from sideways.data.videos.clips import Normalised
from sideways.data.videos.ffmpeg import imageio_ffmpeg, probe
from sideways.data.videos.processes import ffmpeg
from sideways.errors import InputError

GAME = "stream:doom"  # a file of this name is ./doom
QUEUE_LENGTH = 4  # frames that may wait for the learner; when one more arrives, the oldest is dropped
LONGEST_SILENCE = 30.0  # seconds without a frame, after which the stream counts as ended
CLOSING_TIME = 3.0  # seconds that ffmpeg has to send a last frame and end


class StreamEndedError(InputError):
    """A live stream has no more frames."""


class LiveStream(Task):
    """Frames of a camera or a playing file, one sample at a time, and the frame `horizon` ticks ahead as target.

    data: `"stream:/dev/video0"`, `"stream:FILE"` or `"stream:doom"`. A file is played at its own speed and starts again
        when it ends. The frames of Doom are those of a player who wanders through all maps that the task `doom` learns
        from, two tics of the game apart; they depend on the seed.
    length: frames between two lines of metrics. size: height and width, cut from the middle of the scaled frame.
    live: with False, each frame of a file waits until the learner asks for it, so that training runs as fast as it can.
        A run with live=False can be resumed to the last bit, because the frames of the file can be replayed.

    Nothing is held out: an evaluation uses the frames that come next, without learning from them. `taken` counts the
    frames that the learner took; `dropped` counts the frames that came while the learner was busy and the queue of
    QUEUE_LENGTH frames was full.
    """

    predicts_frames = True
    live = True

    def __init__(
        self,
        seed: int = 0,
        data: str = "",
        length: int = 25,
        horizon: int = 2,
        size: int = 32,
        grey: bool = False,
        live: bool = True,
        mean: float = 0.45,
        deviation: float = 0.225,
    ):
        super().__init__(seed, length)
        if not data.startswith("stream:") or data == "stream:":
            raise InputError(
                f"a stream is named by --data stream:FILE, stream:/dev/video0 or stream:doom, not {data!r}"
            )
        if size < 1 or not deviation > 0 or horizon < 1:
            raise InputError("a stream needs size ≥ 1, deviation > 0 and, because it has no labels, --horizon ≥ 1")
        if data == GAME and size > LINES:
            raise InputError(f"doom: size must be from 1 to {LINES}, not {size}")
        self.path = str(located(data.removeprefix("stream:")))
        self.is_game = data == GAME
        self.is_camera = self.path.startswith("/dev/")
        self.at_own_speed = live
        self.replays = not live and not self.is_camera  # True if a resumed run can replay the frames from the start
        self.horizon = horizon
        self.frame_shape, self.classes = (size, size, 1 if grey else 3), ()
        self.mean, self.deviation = mean, deviation
        self.span = (-mean / deviation, (1 - mean) / deviation)
        self.taken = self.dropped = self.given = 0  # frames
        self.ticks_done = 0  # ticks of the next clip that were done before the run was stopped
        self.failure = ""  # the reason why ffmpeg or Doom sends no more frames
        self.recent: deque[numpy.ndarray] = deque()  # frames whose targets have not arrived yet, at most `horizon`
        self.source: Iterator[numpy.ndarray] | None = None  # frames (H, W, C) uint8, once `open`
        self.stop = threading.Event()  # set when nobody reads the stream any more
        self.thread: threading.Thread | None = None

    def clip(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Clip:
        if batch != 1:
            raise InputError(f"a stream is one sample at a time: --batch 1, not {batch}")
        pending, self.ticks_done = PendingClip(self, self.ticks_done), 0
        return Clip(PendingFrames(pending, 0), PendingFrames(pending, 1))

    def open(self, splits: Sequence[str] = SPLITS) -> None:
        """Start the camera or the file, once, and wait for the first frame. Raises `InputError` if no frame arrives."""
        if self.source is not None:
            return
        check_installed() if self.is_game else self._check_file()
        self.decoded = self._play() if self.is_game else self._decode()
        source: Iterator[numpy.ndarray] = self.decoded if self.replays else self._queued(self.decoded)
        try:
            first = next(source, None)
        except (OSError, RuntimeError) as error:
            first, self.failure = None, _last_words(error)
        if first is None:
            raise self._ended()
        self.source = chain([first], source)

    def _check_file(self) -> None:
        ffmpeg()
        if not self.is_camera:
            probe(self.path)
        elif not os.path.exists(self.path):
            raise InputError(f"{self.path}: no such device")

    def close(self) -> None:
        """End ffmpeg or Doom: at once or, if a thread reads the frames, when that thread gets the next frame."""
        self.stop.set()
        if self.thread is not None:
            self.thread.join(CLOSING_TIME)
        elif self.source is not None:
            self.decoded.close()

    def resume(self, given: int, tick: int, counters: Mapping[str, int]) -> None:
        self.given, self.ticks_done = given + tick, tick
        self.taken, self.dropped = counters["taken"], counters["dropped"]
        if self.replays:
            self.taken = self.given
            if self.source is not None:  # None on a rank that gets its frames from another rank
                for _ in range(self.given):
                    if next(self.source, None) is None:
                        raise InputError(f"{self.path}: it has fewer frames than the run has used, {self.given}")

    def counters(self) -> dict[str, int]:
        return {"taken": self.taken, "dropped": self.dropped}

    def next_frame(self) -> numpy.ndarray:
        """Take the oldest frame in the queue, or wait until the next frame arrives. Returns (1, H, W, C) uint8."""
        self.open()
        assert self.source is not None
        try:
            frame = next(self.source, None)
        except (OSError, RuntimeError) as error:
            frame, self.failure = None, _last_words(error)
        if frame is None:
            raise self._ended()
        self.taken += 1
        return frame[None]

    def _ended(self) -> StreamEndedError:
        reason = self.failure or f"the stream has ended, or sent nothing for {LONGEST_SILENCE:g} s"
        return StreamEndedError(f"{self.path}: {reason}")

    def _decode(self) -> Generator[numpy.ndarray]:
        """Yield frames (H, W, C) from ffmpeg without end: a camera's as they arrive, a file's in a loop."""
        height, width, channels = self.frame_shape
        # Without -readrate_initial_burst, ffmpeg sends the first half second of a file at once.
        speed = ["-re", "-readrate_initial_burst", "0.001"] if self.at_own_speed else []
        source_options = ["-f", "v4l2"] if self.is_camera else [*speed, "-stream_loop", "-1"]
        cut = f"scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height}"
        frames = imageio_ffmpeg().read_frames(
            self.path,
            pix_fmt={1: "gray", 3: "rgb24"}[channels],
            bpp=channels,
            input_params=source_options,
            output_params=["-vf", cut, "-fps_mode", "passthrough"],
        )
        next(frames)  # a description of the file
        for frame in frames:
            yield numpy.frombuffer(frame, numpy.uint8).reshape(height, width, channels)

    def _play(self) -> Generator[numpy.ndarray]:
        """Yield frames (H, W, C) of Doom without end, at the game's own speed if the stream is live."""
        height, _, channels = self.frame_shape
        settings = Settings(size=height, grey=channels == 1)
        game = GameProcess(settings)
        due = time.monotonic()
        try:
            for frame in game.wander(self.seed, list(LEARNT_FROM), self.frame_shape):
                if self.at_own_speed:
                    due = max(due + settings.tics / TICS_PER_SECOND, time.monotonic() - 1)
                    time.sleep(max(due - time.monotonic(), 0))
                yield frame
        finally:
            game.end()

    def _queued(self, decoded: Generator[numpy.ndarray]) -> Iterator[numpy.ndarray]:
        """Queue every frame in a thread as soon as the frame arrives; yield the oldest one at each request."""
        queue: deque[numpy.ndarray] = deque()
        changed, ended = threading.Condition(), threading.Event()

        def read() -> None:
            try:
                for frame in decoded:
                    if self.stop.is_set():
                        break
                    with changed:
                        queue.append(frame)
                        if len(queue) > QUEUE_LENGTH:
                            queue.popleft()
                            self.dropped += 1
                        changed.notify()
            except (OSError, RuntimeError) as error:  # from ffmpeg or Doom
                self.failure = _last_words(error)
            finally:
                decoded.close()
                with changed:
                    ended.set()
                    changed.notify()

        self.thread = threading.Thread(target=read, daemon=True)
        self.thread.start()
        while True:
            with changed:
                if not changed.wait_for(lambda: queue or ended.is_set(), LONGEST_SILENCE) or not queue:
                    return
                frame = queue.popleft()
            yield frame


def _last_words(error: Exception) -> str:
    """The last line of the output of ffmpeg or Doom, which names the cause."""
    if isinstance(error, GameEndedError):
        return f"ViZDoom: {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return f"ffmpeg: {lines[-1]}" if lines else "ffmpeg ended without a word"


class PendingClip:
    """A clip that takes its frames and targets from the stream when they are first asked for.

    ticks_done: ticks of the clip that were done before the run was stopped; their frames are gone.
    """

    def __init__(self, stream: LiveStream, ticks_done: int):
        self.stream, self.ticks_done = stream, ticks_done
        self.pairs: list[tuple[numpy.ndarray, numpy.ndarray]] = []

    def pair(self, t: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        """The frame of tick t and its target, each (1, H, W, C) float32."""
        stream = self.stream
        while len(self.pairs) <= t - self.ticks_done:
            while len(stream.recent) <= stream.horizon:
                frame = Normalised(stream.next_frame()[None], stream.mean, stream.deviation)[0]
                stream.recent.append(frame)
            self.pairs.append((stream.recent.popleft(), stream.recent[-1]))
            stream.given += 1
        return self.pairs[t - self.ticks_done]


class PendingFrames(Sequence):
    """The frames (index 0) or the targets (index 1) of a pending clip, each (1, H, W, C) float32."""

    def __init__(self, clip: PendingClip, index_in_pair: int):
        self.clip, self.index_in_pair = clip, index_in_pair

    def __len__(self) -> int:
        return self.clip.stream.length

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[t] for t in range(len(self))[index]]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.clip.pair(index)[self.index_in_pair]

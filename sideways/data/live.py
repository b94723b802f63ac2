"""A live stream: frames as they come, each the target of the frame `horizon` before it. Learning runs that far behind.

arrived   x[n]     the newest frame: what x[n-h] should have led to
learnt    x[n-h]   goes in at this tick, with x[n] as its target
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import chain

import imageio_ffmpeg
import numpy

from sideways.data.task import SPLITS, Clip, Task
from sideways.data.videos.clips import Normalised
from sideways.data.videos.ffmpeg import probe
from sideways.errors import InputError

WAITING = 4  # frames that may wait for the learner; of more, the oldest is dropped
LONGEST_SILENCE = 30.0  # seconds without a frame
PARTING = 3.0  # seconds for the last frame, and for ffmpeg to end


class StreamEndedError(InputError):
    """No frame comes any more."""


class LiveStream(Task):
    """Frames of a camera or a playing file, one sample at a time, and the frame `horizon` ticks ahead as target.

    data: `"stream:/dev/video0"`, or `"stream:FILE"`, played at its own speed and again from its start when it ends.
    length: frames between two lines of metrics; size: height and width, cut from the middle of the scaled frame.
    live: False takes every frame of a file when the learner asks for it, as fast as it goes. Such a run can be resumed
        to the last bit: the same frames come again.

    Nothing is held out: an evaluation takes the frames that come next, without learning. `dropped` counts the frames
    that came while the learner was busy and WAITING others waited.
    """

    predicts_frames = True

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
            raise InputError(f"a stream is named --data stream:FILE or stream:/dev/video0, not {data!r}")
        if size < 1 or not deviation > 0 or horizon < 1:
            raise InputError("a stream needs size and horizon ≥ 1 (--horizon) and deviation > 0: it has no labels")
        self.place, self.horizon, self.live = data.removeprefix("stream:"), horizon, live
        self.frame_shape, self.classes = (size, size, 1 if grey else 3), ()
        self.mean, self.deviation = mean, deviation
        self.span = (-mean / deviation, (1 - mean) / deviation)
        self.replays = not live and not self.place.startswith("/dev/")
        self.dropped = self.taken = self.given = 0  # frames; given: those that were learnt from, or evaluated on
        self.done = 0  # ticks of the next clip that were done before
        self.reason = ""  # why no frame comes
        self.recent: deque[numpy.ndarray] = deque()  # frames whose targets have not come yet, at most `horizon`
        self.source: Iterator[numpy.ndarray] | None = None
        self.stop = threading.Event()  # nobody reads any more
        self.thread: threading.Thread | None = None

    def clip(self, split: str, index: int, batch: int, part: slice = slice(None)) -> Clip:
        if batch != 1:
            raise InputError(f"a stream is one sample at a time: --batch 1, not {batch}")
        coming, self.done = Coming(self, self.done), 0
        return Clip(View(coming, 0), View(coming, 1))

    def open(self, splits: Sequence[str] = SPLITS) -> None:
        """Start the camera or the file, once, up to its first frame; `InputError` if there is none."""
        if self.source is None:
            device = self.place.startswith("/dev/")
            if device and not os.path.exists(self.place):
                raise InputError(f"{self.place}: no such device")
            if not device:
                probe(self.place)
            self.decoded = self._decode(device)
            source: Iterator[numpy.ndarray] = self.decoded
            if not self.replays:
                source = self._as_they_come(self.decoded)
            try:
                first = next(source, None)
            except (OSError, RuntimeError) as error:
                first, self.reason = None, _reason(error)
            if first is None:
                raise self._end()
            self.source = chain([first], source)

    def close(self) -> None:
        """End ffmpeg: at once where frames are asked for, else with the next one that it sends."""
        self.stop.set()
        if self.thread is not None:
            self.thread.join(PARTING)
        elif self.source is not None:
            self.decoded.close()

    def go_on(self, given: int, tick: int, taken: int, dropped: int) -> None:
        """Where a run was stopped: `given` frames before the open clip, `tick` of that."""
        self.given, self.done, self.taken, self.dropped = given + tick, tick, taken, dropped
        if self.replays:
            self.taken = self.given
            for _ in range(self.given if self.source else 0):  # another rank passes it on, without them
                next(self.source)  # type: ignore[arg-type]

    def pull(self) -> numpy.ndarray:
        """The next frame (1, H, W, C) uint8: the oldest of those that wait, or the next to come."""
        self.open()
        assert self.source is not None
        frame = next(self.source, None)
        if frame is None:
            raise self._end()
        self.taken += 1
        return frame[None]

    def _end(self) -> StreamEndedError:
        why = self.reason or f"the stream has ended, or sent nothing for {LONGEST_SILENCE:g} s"
        return StreamEndedError(f"{self.place}: {why}")

    def _decode(self, device: bool) -> Generator[numpy.ndarray]:
        """Frames (H, W, C) from ffmpeg: of a device as they come, of a file at its own speed (if live), for ever."""
        height, width, channels = self.frame_shape
        pace = ["-re", "-readrate_initial_burst", "0.001"] if self.live else []  # else half a second comes at once
        told = ["-f", "v4l2"] if device else [*pace, "-stream_loop", "-1"]
        cut = f"scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height}"
        pixels = {1: "gray", 3: "rgb24"}[channels]
        frames = imageio_ffmpeg.read_frames(
            self.place, pixels, channels, input_params=told, output_params=["-vf", cut, "-fps_mode", "passthrough"]
        )
        next(frames)  # what the file says of itself
        for frame in frames:
            yield numpy.frombuffer(frame, numpy.uint8).reshape(height, width, channels)

    def _as_they_come(self, decoded: Generator[numpy.ndarray]) -> Iterator[numpy.ndarray]:
        """A thread takes every frame when it comes; the learner takes those that still wait."""
        waiting: deque[numpy.ndarray] = deque()
        come, ended = threading.Condition(), threading.Event()

        def read() -> None:
            try:
                for frame in decoded:
                    if self.stop.is_set():
                        break
                    with come:
                        waiting.append(frame)
                        if len(waiting) > WAITING:
                            waiting.popleft()
                            self.dropped += 1
                        come.notify()
            except (OSError, RuntimeError) as error:  # ffmpeg's
                self.reason = _reason(error)
            finally:
                decoded.close()
                with come:
                    ended.set()
                    come.notify()

        self.thread = threading.Thread(target=read, daemon=True)
        self.thread.start()
        while True:
            with come:
                if not come.wait_for(lambda: waiting or ended.is_set(), LONGEST_SILENCE) or not waiting:
                    return
                frame = waiting.popleft()
            yield frame


def _reason(error: Exception) -> str:
    """The last thing that ffmpeg said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return f"ffmpeg: {lines[-1]}" if lines else "ffmpeg ended without a word"


class Coming:
    """The frames of a clip that are yet to come, and their targets: taken from the stream when first asked for.

    done: ticks of the clip whose frames came before the run was stopped.
    """

    def __init__(self, stream: LiveStream, done: int):
        self.stream, self.done = stream, done
        self.pairs: list[tuple[numpy.ndarray, numpy.ndarray]] = []

    def pair(self, t: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        stream = self.stream
        while len(self.pairs) <= t - self.done:
            while len(stream.recent) <= stream.horizon:
                frame = Normalised(stream.pull()[None], stream.mean, stream.deviation)[0]
                stream.recent.append(frame)
            self.pairs.append((stream.recent.popleft(), stream.recent[-1]))
            stream.given += 1
        return self.pairs[t - self.done]


class View(Sequence):
    """The frames (0) or the targets (1) of a clip to come, each (1, H, W, C) float32."""

    def __init__(self, coming: Coming, which: int):
        self.coming, self.which = coming, which

    def __len__(self) -> int:
        return self.coming.stream.length

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[t] for t in range(len(self))[index]]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.coming.pair(index)[self.which]

"""Streams of frames and targets: synthetic tasks, tasks on video files, and live streams. Start with `make_task`."""

from sideways.data.live import LiveStream
from sideways.data.registry import TASKS, make_task
from sideways.data.source import Source
from sideways.data.task import Clip, FramesAhead, Task
from sideways.data.videos.clips import VideoClips
from sideways.data.videos.ffmpeg import VideoInfo, probe, read_frames, shipped_clips, write_video

__all__ = [
    "TASKS",
    "Clip",
    "FramesAhead",
    "LiveStream",
    "Source",
    "Task",
    "VideoClips",
    "VideoInfo",
    "make_task",
    "probe",
    "read_frames",
    "shipped_clips",
    "write_video",
]

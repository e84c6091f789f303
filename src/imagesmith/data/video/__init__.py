"""Films, folders of numbered frames and animations: read frame by frame, written in parts, joined again."""

from imagesmith.data.video.audit import Audit, audit
from imagesmith.data.video.encoding import Encoding, check_size, lost_by, settle
from imagesmith.data.video.info import StreamInfo, VideoFrame, VideoInfo
from imagesmith.data.video.join import join, left_out
from imagesmith.data.video.reader import VideoReader, is_video, open_video, read_info
from imagesmith.data.video.writer import segment_writer

__all__ = [
    "Audit",
    "Encoding",
    "StreamInfo",
    "VideoFrame",
    "VideoInfo",
    "VideoReader",
    "audit",
    "check_size",
    "is_video",
    "join",
    "left_out",
    "lost_by",
    "open_video",
    "read_info",
    "segment_writer",
    "settle",
]

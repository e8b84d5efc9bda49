"""Opening media files that may be broken or hostile: a path, a data URI or bytes in, pixels or a `MediaError` out."""

from mminstruct.media.data_uri import decode_base64
from mminstruct.media.encode import encode_clip
from mminstruct.media.encode_png import encode_png
from mminstruct.media.gate import Gate, GateLimits, GateRequest
from mminstruct.media.image import ImageLimits, decode_image, image_size, image_suffix, open_image, read_image
from mminstruct.media.sampling import FrameSampling
from mminstruct.media.video import Changes, Video, VideoLimits, open_medium, open_video, video_changes

__all__ = [
    "Changes",
    "FrameSampling",
    "Gate",
    "GateLimits",
    "GateRequest",
    "ImageLimits",
    "Video",
    "VideoLimits",
    "decode_base64",
    "decode_image",
    "encode_clip",
    "encode_png",
    "image_size",
    "image_suffix",
    "open_image",
    "open_medium",
    "open_video",
    "read_image",
    "video_changes",
]

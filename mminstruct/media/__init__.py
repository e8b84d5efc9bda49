"""Opening media files that may be broken or hostile: a path, a data URI or bytes in, pixels or a `MediaError` out."""

from mminstruct.media.image import ImageLimits, decode_base64, open_image

__all__ = ["ImageLimits", "decode_base64", "open_image"]

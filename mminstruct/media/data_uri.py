"""Data URIs that hold a picture or a video: `data:image/png;base64,...` -> the encoded bytes, or a `MediaError`."""

from __future__ import annotations

import base64
import binascii
import re

from mminstruct.errors import MediaError

SCHEME = "data:"
_LONGEST_HEADER = 200
_EXAMPLES = {"image": "data:image/png;base64,...", "video": "data:video/mp4;base64,..."}


def split_data_uri(uri: str, kind: str = "image") -> str:
    """The base64 text of a data URI of this kind, "image" or "video"; nothing is decoded.

    Raises:
        MediaError: it is not base64, or is said to be of another kind.
    """
    header, comma, body = uri[len(SCHEME) :].partition(",")
    article = "an" if kind == "image" else "a"
    media_type, *parameters = header[:_LONGEST_HEADER].lower().split(";")
    if not comma or len(header) > _LONGEST_HEADER or not parameters or parameters[-1] != "base64":
        raise MediaError(f"the data URI is not base64; write it as {_EXAMPLES[kind]}")
    if not media_type.startswith(f"{kind}/"):
        raise MediaError(f"the data URI is not of {article} {kind} type; write it as {_EXAMPLES[kind]}")
    return body


def least_size(text: str) -> int:
    """How many bytes a base64 text stands for at least, by its length alone: base64 grows by 4/3."""
    return max(0, len(text) * 3 // 4 - 2)


def decode_base64(text: str) -> bytes:
    """The bytes that a base64 text stands for, in the standard or the URL-safe alphabet, with or without padding.

    Raises:
        MediaError: the text has other characters (white space too), mixes the alphabets, or has an impossible length.
    """
    body = text.rstrip("=")
    padding = len(text) - len(body)
    if not re.fullmatch(r"[A-Za-z0-9+/]*|[A-Za-z0-9_-]*", body):
        raise MediaError(
            f"a base64 text of {len(text)} characters has characters outside one base64 alphabet; encode it again"
        )
    if len(body) % 4 == 1 or (padding and padding != -len(body) % 4):
        raise MediaError(
            f"a base64 text has an impossible length ({len(body)} characters and {padding} of padding); "
            f"it was probably cut, send the whole text"
        )
    try:
        return base64.b64decode(body.translate({ord("-"): "+", ord("_"): "/"}) + "=" * (-len(body) % 4), validate=True)
    except binascii.Error:
        raise MediaError(f"a text of {len(text)} characters is not base64; encode it again") from None

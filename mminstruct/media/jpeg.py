"""How many scans a JPEG has: `encoded bytes -> number`, without decoding.

A progressive JPEG paints the whole picture once a scan, and an empty scan takes a few bytes, so a small file can keep a
decoder busy for hours. Encoders write about ten.
"""

from __future__ import annotations

import re

_MAX_SCANS = 100
_MAX_PASSES = 1_500_000_000  # pixels times scans

# A marker: not a stuffed or fill byte, and none of those that may stand inside of a scan's data.
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = b"\xd8", b"\xd9", b"\xda"


def most_scans(pixels: int) -> int:
    """How many scans a picture of so many pixels may have."""
    return max(1, min(_MAX_SCANS, _MAX_PASSES // pixels))


def scans(data: bytes, most: int) -> int:
    """The scans up to the end of the image, as a decoder walks over them; counting ends one beyond `most`."""
    count, at = 0, 0
    while count <= most and (marker := _MARKER.search(data, at)):
        at = marker.end()
        if marker[1] == _END_OF_IMAGE:
            break
        if marker[1] == _START_OF_IMAGE:
            continue
        count += marker[1] == _START_OF_SCAN
        at += int.from_bytes(data[at : at + 2], "big")
    return count

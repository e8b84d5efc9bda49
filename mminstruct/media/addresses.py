"""Which network addresses lie in the public Internet: `"203.0.113.7" -> bool`, strictly.

An address of IPv6 can carry one of IPv4 (mapped, 6to4, NAT64), which is what is reached in the end, so that one is
judged. `ipaddress` alone calls NAT64's and 6to4's forms of 127.0.0.1 global, and multicast too.
"""

from __future__ import annotations

import ipaddress

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that has been given out; the rest is special or not in use
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What `ipaddress` (of Python 3.11) takes for global, and is not a host of the Internet that anybody could mean.
_NOT_PUBLIC = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocols' own; a cloud's metadata among them
    ipaddress.IPv4Network("192.88.99.0/24"),  # relays of 6to4
    ipaddress.IPv4Network("168.63.129.16/32"),  # a cloud's own services, seen from its machines only
)
_TEREDO = ipaddress.IPv6Network("2001::/32")  # a tunnel to any host behind a NAT


def is_public(address: str) -> bool:
    """Whether this address, as digits, is that of a host of the Internet, whichever way it is written or wrapped."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return _is_public_v4(found)
    if found.scope_id is not None:
        return False
    wrapped = found.ipv4_mapped or found.sixtofour
    if wrapped is None and found in _NAT64:
        wrapped = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    if wrapped is not None:
        return _is_public_v4(wrapped)
    return found in _GLOBAL_UNICAST and found not in _TEREDO and found.is_global and not found.is_multicast


def _is_public_v4(address: ipaddress.IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and all(address not in network for network in _NOT_PUBLIC)

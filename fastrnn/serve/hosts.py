"""Names by which a server is asked, and pages from which it is."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

HOST = re.compile(r"(\[[^][]*\]|[^][:]*)(?::[0-9]*)?")  # of a Host header: RFC 9110, 7.2
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(\[[^][/]*\]|[^][:/?#@\\]*)(?::([0-9]*))?")
DEFAULT_PORTS = {"http": 80, "https": 443}
WITHOUT_HOST = ("null", "file://")  # what browsers say of pages that have none


def is_own_name(header: str | None, names: Collection[str]) -> bool:
    """Whether a Host header names an address, localhost or one of `names`.

    A page can have its own name mean any address, this machine's too, and would then read what is
    served here as if it came from there. It cannot choose what is in the Host header.
    """
    found = HOST.fullmatch(header or "")
    if found is None:
        return False
    host = found[1].lower().removesuffix(".")
    return host == "localhost" or host in names or _address(host) is not None


def check_origin(origin: str) -> None:
    """Refuse what no browser sends as an Origin header: scheme, host, and port if unusual.

    Raises
    ------
    ValueError
        With what it should be, where that can be said.
    """
    if origin in WITHOUT_HOST:
        return
    found = ORIGIN.fullmatch(origin.rstrip("/"))
    if found is None:
        raise ValueError(
            f"origin {origin!r} can match nothing, expected one such as https://example.org"
        )
    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    if scheme in ("ws", "wss"):
        raise ValueError(f"origin {origin!r}: a page has http or https, not {scheme}")
    number = int(port) if port else None
    if not _is_host(host) or (number is not None and number > 65535):
        raise ValueError(f"origin {origin!r} can match nothing: browsers know no such host")
    address = _address(host)
    if address is not None:
        host = f"[{address}]" if address.version == 6 else str(address)
    plain = f"{scheme}://{host}"
    if number is not None and number != DEFAULT_PORTS.get(scheme):
        plain += f":{number}"
    if plain != origin:
        raise ValueError(f"origin {origin!r} can match nothing: browsers send {plain!r}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        if host.startswith("["):
            return ipaddress.IPv6Address(host[1:-1])
        return ipaddress.IPv4Address(host)
    except ValueError:
        return None


def _is_host(host: str) -> bool:
    """Whether it can be the host of a URL as browsers write it, in lower case."""
    if host.startswith("["):
        return _address(host) is not None and "%" not in host
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdigit():  # then it is an IPv4 address, or nothing
        return _address(host) is not None
    return len(host) <= 253 and all(LABEL.fullmatch(x) and len(x) <= 63 for x in labels)

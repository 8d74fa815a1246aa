"""How a connection comes about: endpoints, keys, TLS. What is said on it is the session's business."""

from xtrack_protocol.net.endpoint import Endpoint, TLSOptions, parse_endpoint

__all__ = ["Endpoint", "TLSOptions", "parse_endpoint"]

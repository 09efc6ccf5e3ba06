"""What a Kubernetes request is: target and RequestInfo, hazard classes, bodies, negotiation, frames, Status.

Bytes and values in, values out: no clock, no file but the package's own data, no network, and nothing
imported from the other rooms.
"""

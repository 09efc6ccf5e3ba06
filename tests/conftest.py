"""Fixtures for every test.

mitmproxy's dependencies warn when they are imported; they are imported here once, so that in tests a warning
is an error of ours.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mitmproxy.addons
    import mitmproxy.addons.tlsconfig  # noqa: F401

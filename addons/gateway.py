"""mitmdump -s addons/gateway.py --set interlock_config=rules/gateway.yaml

Hands the stack to mitmproxy, nothing else. The guard belongs to mitmproxy from then on, not to this script:
editing, breaking or deleting the script changes nothing in a running gateway.
"""

from mitmproxy import ctx

from interlock import lifecycle

lifecycle.install(ctx.master)

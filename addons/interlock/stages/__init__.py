"""One file a stage, in the order of `stack.py`. Hooks have mitmproxy's names and take an Exchange."""

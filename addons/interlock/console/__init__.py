"""The console: the HTTP API (and later the pages) beside the gateway."""

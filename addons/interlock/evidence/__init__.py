"""Evidence: what happened, durable before it is acted on, and readable by others while it happens.

`events` are the facts, `lines` the journal's format, `journal` makes them durable inside the gateway,
`recorder` (a process of its own) turns journals into `evidence.duckdb`, `starting` starts it, `reading`
reads it. The gateway imports `events`, `journal` and `starting` alone: none of them imports DuckDB.
"""

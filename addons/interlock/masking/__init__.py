"""Masking: what may be shown of an answer and written of a request.

In: bytes of the cluster's or the agent's, and the key of a session. Out: `Masked`, which nothing outside this
room can make. The rule: what cannot be read is not shown.
"""

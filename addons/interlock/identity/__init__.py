"""Who is asking: principals, identity tokens, sessions. Knows no proxy and no web framework."""

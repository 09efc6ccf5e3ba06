"""What `interlock demo` needs to run on any machine: a small Kubernetes API of our own and a story to tell on it."""

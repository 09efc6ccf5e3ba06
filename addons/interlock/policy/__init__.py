"""Policy: who may do what. `load_policies` reads the files, `PolicySet.decide` answers for one request."""

from interlock.policy.engine import Decision, PolicySet, Question
from interlock.policy.files import load_policies

__all__ = ["Decision", "PolicySet", "Question", "load_policies"]

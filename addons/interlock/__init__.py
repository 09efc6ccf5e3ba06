"""Interlock: a fail-closed guardrail gateway between AI agents and the Kubernetes API."""

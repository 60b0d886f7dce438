"""Frozen records, their rules and transitions, and the domain errors. Knows no storage and no HTTP."""

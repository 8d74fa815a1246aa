"""Writes the cases of the suite. What they expect comes from the text of the specification, never from running code.

``python -m generate`` in this folder writes ``xtrack_conformance/cases/*.json``, the lock and the clauses' texts.
"""

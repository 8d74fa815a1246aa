"""Fuzzing over the testee protocol: inputs that nobody wrote, judged by what must hold of any.

Nothing here is part of a verdict: that depends on the cases alone. What is found is saved, and can be made a case of
(``promote``). Only :mod:`~xtrack_conformance.fuzz.strategies` and :mod:`~xtrack_conformance.fuzz.machines` need
Hypothesis.
"""

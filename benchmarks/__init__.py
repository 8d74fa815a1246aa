"""What the library costs, beside bare loops that do the same work, on this machine and in one run.

    python -m benchmarks --quick
    python -m benchmarks --only P1,P4 --json figures.json --markdown figures.md

A figure that has a goal is a ratio of two things measured by turns in one process, or of two processes run by turns;
absolute figures stand beside it for orientation. See ``docs/reference/limits.md`` for what they were on one machine.
"""

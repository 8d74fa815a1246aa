"""The skeletons that ``init`` writes: a testee of one file in each of several languages."""

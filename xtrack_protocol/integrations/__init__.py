"""What works with programs of others: one module for each, which alone imports it.

Nothing is imported here. A module whose package isn't installed says which one it needs, and how to install it.
"""

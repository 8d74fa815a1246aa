"""Cases of CTL: the collector's side of a connection."""

from __future__ import annotations

from generate import ctl_commands, ctl_edges, ctl_peers, ctl_settled, ctl_spooled, ctl_streams, ctl_subscribe
from generate.dsl import Group


def cases() -> Group:
    """Return the cases."""
    group = Group("ctl")
    for module in (ctl_streams, ctl_peers, ctl_subscribe, ctl_commands, ctl_edges, ctl_settled, ctl_spooled):
        module.add_to(group)
    return group

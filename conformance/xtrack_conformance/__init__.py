"""The conformance suite of the XTrack protocol: any implementation, in any language, judged clause by clause.

An implementation takes part through a *testee*, a program that answers one JSON object a line (docs/reference/
testee-protocol.md). ``python -m xtrack_conformance run -- COMMAND...`` judges it. Nothing of ``xtrack_protocol`` is
imported here: what the reference implementation thinks is no argument.
"""

from typing import Final

HARNESS: Final = 1
"""Version of the testee protocol. A change that an old testee can't answer makes it 2."""

PROTOCOL: Final = 1
"""Version of the XTrack protocol that the cases are about."""

ROLES: Final = ("encoder", "decoder", "framer", "collector", "store", "emitter", "server")
"""What a testee can be judged as."""

CAPABILITIES: Final = {
    "strict": "has a strict reader, which refuses bare NaN tokens and booleans as numbers",
    "lenient": "has a lenient reader, which takes them",
    "recording": "reads files of frames, and finds its way after damage",
    "stop_at_damage": "can be asked to stop at the first damage of a recording",
    "limits": "its limit on the length of a payload can be configured",
    "lone_surrogates": "its strings can hold half of a surrogate pair",
    "messagepack": "its codec reads and writes MessagePack",
    "full": "the place where it keeps events can be made full",
    "processes": "a process of its own can be run with it",
    "settings_file": "such a process reads a file of settings",
    "forks": "such a process can fork",
    "threads": "such a process can log in several threads",
    "folders": "the suite can look into the folder of its spool, and put files there",
    "shipping": "ships what lies in a spool later, from another process",
    "disk": "the disk under its spool can be made to refuse and to run short",
    "scalars": "takes the scalars of an array library of its language",
    "stalls": "the other machine can stop taking what it sends",
    "certificates": "its emitter can be told which certificates to trust",
    "frameworks": "frameworks of its language can be put in the way of such a process",
    "keys": "its server can require keys",
    "commands": "its server passes commands on",
    "follow": "its server says where a subscription begins and ends",
    "deadlines": "the deadlines of its server can be configured",
    "bounds": "how much its server takes at once can be configured",
    "crash": "its server, or what holds its store, can be killed",
    "store_faults": "the store of its server can be made to refuse",
    "worker_in_store": "the store of its server is a spool, in which a worker can live",
    "tls": "its server speaks TLS",
    "reindex": "its store is a spool with an index that can be made again",
    "segments": "reads and writes segments",
    "spool": "reads and writes spools",
    "notes": "writes the files that lie beside the segments of a spool",
    "trim": "removes from a spool what was shipped",
    "locks": "can hold a file's lock while a spool is read",
    "posix": "its file system has modes and symbolic links",
}
"""What an implementation may lack without being at fault. A case that needs one is not applicable without it."""

"""The one door to libbpf.so.1 and to bpf(2), typed.

``Object`` is a compiled file; loading it gives ``Map`` and ``Program``; a ``Link`` holds a program
to an interface. Each owns one descriptor and can be pinned, and opened again from its pin.
Sizes of keys, values and packets are checked here, before the kernel writes into our memory.
"""

from kernlb.datapath.xdp.libbpf.library import LoadError, require_libbpf
from kernlb.datapath.xdp.libbpf.links import Link, Mode, XdpState, xdp_state
from kernlb.datapath.xdp.libbpf.maps import Map, MapShape, possible_cpus
from kernlb.datapath.xdp.libbpf.object import Object
from kernlb.datapath.xdp.libbpf.programs import Program, RunResult

__all__ = [
    "Link",
    "LoadError",
    "Map",
    "MapShape",
    "Mode",
    "Object",
    "Program",
    "RunResult",
    "XdpState",
    "possible_cpus",
    "require_libbpf",
    "xdp_state",
]

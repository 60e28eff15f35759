"""Bringing the program into the kernel, and replacing it there while packets flow.

The first load makes the maps; every later one takes the maps that are pinned, with their entries
and their sizes, loads the program anew, and gives it to every attached interface in one step
each. Whatever interrupts a load, what is pinned then works, and the next load finishes it:

1. the object is verified with the maps; nothing is pinned yet, any refusal leaves all as it was
2. new maps are pinned, and appear at once
3. programs are pinned beside the ones in force
4. each link is updated; old and new programs share the maps
5. the new programs' pins take the place of the old ones'

Maps of another ABI are refused before anything is touched.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from kernlb.datapath import DatapathUnavailableError
from kernlb.datapath.xdp.layout import ABI, ABI_VERSION, CONN_WAYS, Abi
from kernlb.datapath.xdp.libbpf import Link, LoadError, Map, Object, Program, possible_cpus
from kernlb.datapath.xdp.libbpf.bpffs import require_bpffs
from kernlb.datapath.xdp.memory import Sizes, footprint, size_maps
from kernlb.datapath.xdp.pins import Pins, beside, map_pin, publish, remove

ATTACHED = "kernlb"  # the program that interfaces get

_KEY = bytes(4)


class AbiError(LoadError):
    """The maps are of another version of kernlb."""


@dataclass(frozen=True, slots=True)
class SizeKept:
    """A warning: the table exists, and keeps the size it was made with."""

    what: str
    wanted: int
    kept: int

    def __str__(self) -> str:
        return f"{self.what} stays at {self.kept} entries, not {self.wanted}: the map exists"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Descriptors of all that is pinned, by the names of the pins; ``close`` leaves the pins."""

    maps: Mapping[str, Map]
    programs: Mapping[str, Program]
    sizes: Sizes  # as they are
    made: bool  # the maps are new
    warnings: tuple[SizeKept, ...] = ()
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)

    def close(self) -> None:
        self._stack.close()


def object_path(name: str = "kernlb") -> Path:
    """The compiled object that came with this package.

    Raises DatapathUnavailableError where it was installed without."""
    path = Path(str(files("kernlb.datapath.xdp"))) / "objects" / f"{name}.bpf.o"
    if not path.is_file():
        raise DatapathUnavailableError(
            errno.ENOENT, f"cannot use XDP: {path.name} was not compiled (make bpf)"
        )
    return path


def load(root: Path, sizes: Sizes | None = None, path: Path | None = None) -> Loaded:
    """Load, or upgrade what is loaded; safe to repeat.

    Raises DatapathUnavailableError where this host or process cannot, AbiError, LoadError where
    the kernel refuses the program, BlockingIOError while another process is at it."""
    path, wanted, pins = path or object_path(), sizes or Sizes(), Pins(root)
    require_bpffs(root)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with pins.locked(), ExitStack() as stack, Object.open(path) as loadable:
        existing = _open_maps(pins, loadable, stack)
        abi = _read_abi(existing, pins, path) or _new_abi(wanted)
        maps, programs = _load_aside(loadable, existing, abi, stack)
        if not existing:
            maps["abi"].update(_KEY, ABI.pack(abi))
        _publish_maps(pins, existing, maps)
        following = _pin(programs, beside(pins.programs))
        _update_links(pins, programs[ATTACHED])
        publish(following, pins.programs)
        warnings = _compare(wanted, sizes_of(abi)) if existing else ()
        return Loaded(maps, programs, sizes_of(abi), not existing, warnings, stack.pop_all())


def unload(root: Path) -> None:
    """Detach from every interface and remove every pin, connections and all.

    Unloading what is not loaded succeeds. A root that is mounted (by a unit) stays, empty."""
    pins = Pins(root)
    with suppress(FileNotFoundError), pins.locked():
        for path in pins.links.iterdir() if pins.links.exists() else ():
            with Link.open_pinned(path) as link:
                link.detach()  # the last pin of a link takes it away too, but later
        for directory in ("links", "programs", "programs-next", "maps", "maps-next"):
            remove(root / directory)
        try:
            root.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise


def _open_maps(pins: Pins, loadable: Object, stack: ExitStack) -> dict[str, Map]:
    """Those that are pinned, by their pins; {} before the first load."""
    if not pins.maps.exists():
        return {}
    names = {pin for name in loadable.map_names if (pin := map_pin(name))} | {"abi"}
    there = sorted(names & {each.name for each in pins.maps.iterdir()})
    return {pin: stack.enter_context(Map.open_pinned(pins.maps / pin)) for pin in there}


def _read_abi(existing: Mapping[str, Map], pins: Pins, path: Path) -> Abi | None:
    if not existing:
        return None
    value = existing["abi"].lookup(_KEY) if "abi" in existing else None
    if value is None or len(value) < ABI.size:
        raise AbiError(errno.EINVAL, f"cannot load {path.name}: {pins.maps} has no ABI version")
    abi = ABI.unpack(value)
    if abi.version != ABI_VERSION:
        raise AbiError(
            errno.EINVAL,
            f"cannot load {path.name}: the maps in {pins.maps} have ABI version {abi.version}, "
            f"this program has {ABI_VERSION}; nothing was changed",
        )
    return abi


def _new_abi(sizes: Sizes) -> Abi:
    tables = (sizes.services, sizes.servers, sizes.slots, sizes.buckets4, sizes.buckets6)
    return Abi(ABI_VERSION, *tables, hash_seed=secrets.randbits(64))


def sizes_of(abi: Abi) -> Sizes:
    conns = abi.conns4 * CONN_WAYS, abi.conns6 * CONN_WAYS
    return Sizes(abi.services, abi.servers, abi.slots, *conns)


def _load_aside(
    loadable: Object, existing: Mapping[str, Map], abi: Abi, stack: ExitStack
) -> tuple[dict[str, Map], dict[str, Program]]:
    """In the kernel, and nowhere to be seen."""
    size_maps(loadable, sizes_of(abi))
    pins = {name: pin for name in loadable.map_names if (pin := map_pin(name))}
    for name, pin in pins.items():
        if pin in existing:
            loadable.reuse(name, existing[pin])
    loadable.set_rodata(
        {
            "hash_seed": abi.hash_seed,
            "conns4_mask": abi.conns4 - 1,
            "conns6_mask": abi.conns6 - 1,
            "cpus": possible_cpus(),  # each has source ports of its own for fullnat
        }
    )
    loadable.allow_fragments()
    try:
        loadable.load()
    except LoadError as why:
        raise _too_large(loadable, existing) if why.errno == errno.ENOMEM else why from why
    maps = {pin: stack.enter_context(loadable.map(name)) for name, pin in pins.items()}
    programs = {
        name: stack.enter_context(loadable.program(name)) for name in loadable.program_names
    }
    return maps, programs


def _too_large(loadable: Object, existing: Mapping[str, Map]) -> LoadError:
    wanted = {
        name: footprint(loadable.shape(name))
        for name in loadable.map_names
        if map_pin(name) not in existing
    }
    largest = max(wanted, key=wanted.__getitem__)
    return LoadError(
        errno.ENOMEM,
        f"cannot load {loadable.path.name}: no memory for tables of {sum(wanted.values()) >> 20} "
        f"MiB, of which {largest} takes {wanted[largest] >> 20} MiB",
    )


def _publish_maps(pins: Pins, existing: Mapping[str, Map], maps: Mapping[str, Map]) -> None:
    if not existing:
        publish(_pin(maps, beside(pins.maps)), pins.maps)
    else:
        _pin({pin: each for pin, each in maps.items() if pin not in existing}, pins.maps)


def _pin(things: Mapping[str, Map] | Mapping[str, Program], directory: Path) -> Path:
    for name, each in things.items():
        each.pin(directory / name)
    return directory


def _update_links(pins: Pins, program: Program) -> None:
    """All of them, or, where one refuses, none. Pins whose interface is gone go too."""
    updated: list[tuple[Link, Program]] = []
    with ExitStack() as stack:
        present = _present(pins, stack)
        try:
            for path in sorted(pins.links.iterdir()) if pins.links.exists() else ():
                link = stack.enter_context(Link.open_pinned(path))
                info = link.info
                if not info.ifindex:
                    path.unlink()
                    continue
                before = present if present and present.program_id == info.program_id else None
                link.update(program)
                if before is not None:  # else a load that did not end left it: it shall not stay
                    updated.append((link, before))
        except OSError:
            for link, before in updated:
                link.update(before)
            raise


def _present(pins: Pins, stack: ExitStack) -> Program | None:
    """The program in force, by its pin: asking for one by its id takes CAP_SYS_ADMIN."""
    with suppress(FileNotFoundError):
        return stack.enter_context(Program.open_pinned(pins.programs / ATTACHED))
    return None


def _compare(wanted: Sizes, kept: Sizes) -> tuple[SizeKept, ...]:
    """Connection tables are compared as what they round up to."""
    wants, has = wanted.of_maps(), kept.of_maps()
    return tuple(
        SizeKept(name, getattr(wanted, name), getattr(kept, name))
        for name in ("services", "servers", "slots", "conns4", "conns6")
        if wants[name] != has[name]
    )

"""The door to drivers of interfaces: SIOCETHTOOL. What a driver has not is None."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct

from kernlb.doctor.drivers import Driver

_SIOCETHTOOL = 0x8946
_GDRVINFO, _GTXCSUM, _STXCSUM, _GFLAGS, _SFLAGS, _GGRO = 0x03, 0x16, 0x17, 0x25, 0x26, 0x2B
_GCHANNELS, _SCHANNELS = 0x3C, 0x3D
_LRO = 1 << 15  # ETH_FLAG_LRO
_VALUE = struct.Struct("II")
_CHANNELS = struct.Struct("9I")  # cmd; max rx, tx, other, combined; rx, tx, other, combined
_ABSENT = (errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL)


def read(interface: str, native_xdp: bool | None = None) -> Driver:
    """Raises OSError."""
    info = _ask(interface, struct.pack("I192x", _GDRVINFO))
    channels = _ask(interface, _CHANNELS.pack(_GCHANNELS, *[0] * 8))
    most, now, kind = 0, 0, "combined"
    if channels is not None:
        numbers = _CHANNELS.unpack(channels)
        most, now = numbers[4], numbers[8]
        if not most:
            most, now, kind = numbers[1], numbers[5], "rx"
    return Driver(
        interface,
        "" if info is None else info[4:36].partition(b"\0")[0].decode("ascii", "replace"),
        lro=_flag(interface, _GFLAGS, _LRO),
        gro=_flag(interface, _GGRO),
        tx_checksum=_flag(interface, _GTXCSUM),
        queues=now,
        most_queues=most,
        queue_kind=kind,
        native_xdp=native_xdp,
    )


def switch_off(interface: str, feature: str) -> None:
    """``lro`` or ``tx``. Raises OSError."""
    if feature == "tx":
        _must(interface, _VALUE.pack(_STXCSUM, 0))
        return
    flags = _ask(interface, _VALUE.pack(_GFLAGS, 0))
    if flags is not None:
        _must(interface, _VALUE.pack(_SFLAGS, _VALUE.unpack(flags)[1] & ~_LRO))


def set_channels(interface: str, queues: int, kind: str) -> None:
    """``kind``: combined or rx. Raises OSError."""
    answer = _ask(interface, _CHANNELS.pack(_GCHANNELS, *[0] * 8))
    if answer is None:
        raise OSError(errno.EOPNOTSUPP, "the driver has one set of queues")
    numbers = _CHANNELS.unpack(answer)
    rx, combined = (queues, numbers[8]) if kind == "rx" else (numbers[5], queues)
    _must(interface, _CHANNELS.pack(_SCHANNELS, *numbers[1:5], rx, *numbers[6:8], combined))


def _flag(interface: str, command: int, mask: int = 0xFFFFFFFF) -> bool | None:
    answer = _ask(interface, _VALUE.pack(command, 0))
    return None if answer is None else bool(_VALUE.unpack(answer)[1] & mask)


def _ask(interface: str, request: bytes) -> bytes | None:
    """None where the driver does not know the question."""
    try:
        return _must(interface, request)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def _must(interface: str, request: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(request, len(request))
    call = struct.pack("16sP16x", interface.encode(), ctypes.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, call)
    return buffer.raw

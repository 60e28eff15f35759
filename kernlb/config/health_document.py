"""What may be written under ``health``: of a service, and of the host's monitor, key by key."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from kernlb.config.values import Duration, OnlyFalse, doc
from kernlb.health.check import Initial, OnDown, WhenAllDown

MAX_QUORUM = 2**31 - 1

Share = Annotated[
    Annotated[str, Meta(pattern=r"^(100|[0-9]{1,2}(\.[0-9]{1,2})?)%$(?!\n)")]
    | Annotated[float, Meta(ge=0, le=1)],
    Meta(
        extra_json_schema={
            "title": 'a share: a number within 0..1, or text as "50%"',
            "examples": [0.5, "50%"],
        }
    ),
]


class _Document(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    pass


class DampingDocument(_Document, frozen=True):
    """Servers that flap are held down."""

    changes: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | UnsetType,
        doc("So many changes of condition are borne.", default=6),
    ] = UNSET
    period: Annotated[Duration | UnsetType, doc("Within this time.", default="5m")] = UNSET
    hold: Annotated[
        Duration | UnsetType,
        doc(
            "A server that changed more often is down until it was steady for this long.",
            default="1m",
        ),
    ] = UNSET


class HealthDocument(_Document, frozen=True):
    """What the verdicts on its servers mean to a service. Left out: as the host has it."""

    on_down: Annotated[
        OnDown | UnsetType,
        doc(
            "remove: a bad server leaves the kernel. inhibit: it stays with weight 0, and so do "
            "its connections.",
            default="remove",
        ),
    ] = UNSET
    initial: Annotated[
        Initial | UnsetType,
        doc(
            "wait: a server new to the kernel waits for its first good probe. up: it does not.",
            default="wait",
        ),
    ] = UNSET
    quorum: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_QUORUM)] | UnsetType,
        doc("Weight of good servers that the service needs to count as serving.", default=1),
    ] = UNSET
    hysteresis: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_QUORUM)] | UnsetType,
        doc("Weight above the quorum that it takes to have it again.", default=0),
    ] = UNSET
    withdraw_vip: Annotated[
        bool | UnsetType,
        doc("Take the address off the interface below the quorum. Needs vip.", default=False),
    ] = UNSET
    keep: Annotated[
        Share | UnsetType,
        doc(
            "Share of the servers that stays in the kernel whatever their health, the least bad "
            "of them.",
            default=0,
        ),
    ] = UNSET
    depool_threshold: Annotated[Share | UnsetType, doc("PyBal's word for keep.")] = UNSET
    when_all_down: Annotated[
        WhenAllDown | UnsetType,
        doc(
            "No server is good: sorry: the sorry servers. reject: none. fail-open: all of them, "
            "as if they were good.",
            default="sorry",
        ),
    ] = UNSET
    damping: Annotated[
        DampingDocument | OnlyFalse | UnsetType,
        doc("Servers that flap are held down; false: they are not."),
    ] = UNSET
    passive: Annotated[
        bool | UnsetType,
        doc(
            "Hear what the datapath sees of servers as well. XDP only, beside checks.",
            default=False,
        ),
    ] = UNSET


class MonitorDocument(_Document, frozen=True):
    """The host's health monitor, and when it is not to be believed."""

    lateness_limit: Annotated[
        Duration,
        doc(
            "A monitor that is later than this does not judge: its bad results count for nothing.",
            default="250ms",
        ),
    ] = "250ms"
    partition_grace: Annotated[
        Duration,
        doc(
            "Everything fails at once: rather the balancer is cut off. For so long no server is "
            "taken out for it; 0: not held.",
            default="30s",
        ),
    ] = "30s"
    partition_share: Annotated[
        Share, doc("Share of what is asked that must fail for this to be so.", default=0.9)
    ] = 0.9
    concurrent_execs: Annotated[
        Annotated[int, Meta(ge=1, le=1024)],
        doc("Programs of exec checks that run at a time, at most.", default=16),
    ] = 16

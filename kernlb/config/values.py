"""Values that documents are made of: addresses, ports, durations, labels, and how they are told.

A type that stands for one thing says so in its title, which faults and the reference page use.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from kernlb.model import MAX_PORT, MAX_WEIGHT

MAX_THRESHOLD = 2**31 - 1
MAX_LABELS = 64

# $ alone lets one line end through at the very end, in Python though not in ECMA 262.
END = r"$(?!\n)"
DURATION_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h|d)" + END
LABEL_KEY_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?" + END
LABEL_VALUE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*" + END
# IFNAMSIZ is 16 with the NUL; see dev_valid_name() in net/core/dev.c
INTERFACE_PATTERN = r"^[!-.0-9;-~]{1,15}" + END


def doc(description: str, **schema: Any) -> Meta:
    """What a key means, and what else an editor should know of it."""
    return Meta(description=description, extra_json_schema=schema or None)


Address = Annotated[
    str,
    Meta(
        max_length=64,
        extra_json_schema={
            "title": "an IP address",
            "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
            "examples": ["192.0.2.10", "2001:db8::10"],
        },
    ),
]
Port = Annotated[int, Meta(ge=0, le=MAX_PORT)]
AnyPort = Literal["any"]
Weight = Annotated[int, Meta(ge=0, le=MAX_WEIGHT)]
Threshold = Annotated[int, Meta(ge=0, le=MAX_THRESHOLD)]
Duration = Annotated[
    Annotated[str, Meta(pattern=DURATION_PATTERN)] | Annotated[float, Meta(ge=0, le=1e9)],
    Meta(
        extra_json_schema={
            "title": 'a duration: seconds, or text as "500ms", "90s", "5m", "1h", "1d"',
            "examples": [300, "5m"],
        }
    ),
]
Interface = Annotated[
    str,
    Meta(
        pattern=INTERFACE_PATTERN,
        extra_json_schema={"title": "the name of an interface (1 to 15 characters)"},
    ),
]
Labels = Annotated[
    dict[
        Annotated[
            str,
            Meta(
                pattern=LABEL_KEY_PATTERN,
                extra_json_schema={
                    "title": "a label key: 1 to 63 letters, digits or . _ / - within"
                },
            ),
        ],
        Annotated[
            str,
            Meta(
                max_length=255,
                pattern=LABEL_VALUE_PATTERN,
                extra_json_schema={
                    "title": "text on one line, 255 characters at most (numbers in quotes)"
                },
            ),
        ],
    ],
    Meta(max_length=MAX_LABELS),
]


OnlyFalse = Annotated[bool, Meta(extra_json_schema={"title": "false"})]  # true has no meaning

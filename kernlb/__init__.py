"""kernlb: declare virtual services; the kernel balances them."""

__version__ = "0.1.0"

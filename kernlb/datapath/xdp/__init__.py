"""The XDP datapath: an eBPF program balances, and this package programs its maps."""

"""Virtual IP addresses on the balancer: planned (plan), announced (announce), set (netlink)."""

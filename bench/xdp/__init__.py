"""What the XDP program costs a packet, beside the least that any balancer can cost."""

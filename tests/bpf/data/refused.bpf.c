// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* refused.bpf.c - reads beyond what it checked, so that the verifier says no. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int careless(struct xdp_md *ctx)
{
	return *(unsigned char *)(long)ctx->data;
}

char _license[] SEC("license") = "Dual BSD/GPL";

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * small.bpf.c - the maps of the datapath and programs of a few lines, for tests of loading.
 *
 * Built as it is; with -DNEWER as a later version of itself; with -DCARELESS as one that the
 * verifier refuses.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../../../bpf/maps.h"

const volatile __u32 cpus = 1; /* of balance.h */

#ifdef NEWER
#define COUNTED 1
#else
#define COUNTED 0
#endif

/* Counts packets in `reasons`: the older version in its first value, the newer in its second. */
SEC("xdp")
int kernlb(struct xdp_md *ctx)
{
	__u32 key = COUNTED;
	__u64 *count = bpf_map_lookup_elem(&reasons, &key);

	if (count)
		*count += 1;
#ifdef CARELESS
	return *(__u8 *)(long)ctx->data;
#else
	return XDP_PASS;
#endif
}

/* Puts 16 bytes in front, or tells where the packet came in and what the constants are. */
SEC("xdp")
int explain(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct explanation *told = bpf_map_lookup_elem(&explanations, &key);

	if (told) {
		told->ifindex = ctx->ingress_ifindex;
		told->service = conns4_mask;
		told->server = conns6_mask;
		told->state = hash_seed;
		told->conn = hash_seed >> 32;
		told->reason = filter[7] + settings.timeouts[1];
	}
	return bpf_xdp_adjust_head(ctx, -16) ? XDP_ABORTED : XDP_TX;
}

SEC("syscall")
int sweep(struct sweep *args)
{
	args->used = args->first + args->count;
	return 7;
}

char _license[] SEC("license") = "Dual BSD/GPL";

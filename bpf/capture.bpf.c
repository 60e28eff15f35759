// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * capture.bpf.c - packets as the datapath saw them: before, after, verdict and reasons.
 *
 * enter() and leave() stand at the first and behind the last instruction of the loaded program
 * `kernlb` (fentry and fexit of a BPF program), which is not changed for it and does not know.
 * While nobody captures they are not there.
 *
 * A packet's reason is what was counted meanwhile: map `reasons` is per CPU, and so is a packet.
 *
 * kernlb/datapath/xdp/capturing.py loads it, says what is wanted, and reads the ring.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "abi.h"

#define KEPT_MAX 4096	/* bytes of a packet, at most */
#define HEADERS 96	/* what is read to decide: Ethernet, two VLAN tags, IPv6, ports */
#define CACHE_LINE 64	/* to which the kernel aligns struct skb_shared_info */
#define HAS_FRAGS 1	/* XDP_FLAGS_HAS_FRAGS */

/* The kernel's, as far as they are read; where the fields lie is found out at load. */
struct net_device {
	int ifindex;
} __attribute__((preserve_access_index));

struct xdp_rxq_info {
	struct net_device *dev;
	__u32 queue_index;
} __attribute__((preserve_access_index));

struct xdp_buff {
	void *data;
	void *data_end;
	void *data_hard_start;
	struct xdp_rxq_info *rxq;
	__u32 frame_sz;
	__u32 flags;
} __attribute__((preserve_access_index));

struct skb_shared_info {
	unsigned int xdp_frags_size;
} __attribute__((preserve_access_index));

/* One record of the ring; the bytes of the packet before and after follow. */
struct seen {
	__u64 time; /* ns of the monotonic clock */
	__u32 ifindex;
	__u32 queue;
	__u32 verdict; /* enum xdp_action */
	__u32 reasons; /* bits by enum reason */
	__u32 length_before;
	__u32 kept_before;
	__u32 length_after;
	__u32 kept_after;
};
_Static_assert(sizeof(struct seen) == 40, "struct seen");

/* What one CPU knows of the packet that is in the program now. */
struct under_way {
	struct seen seen;
	__u8 bytes[2 * KEPT_MAX];
	__u8 headers[HEADERS];
	__u64 counted[REASONS]; /* when it came */
	__u64 packet;		/* its struct xdp_buff; 0: none that is wanted */
	__u64 matches;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct under_way);
} here SEC(".maps");

/* That of the program which is watched. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, __u64);
} reasons SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} ring SEC(".maps");

struct counts {
	__u64 taken;
	__u64 lost; /* the ring was full */
};
struct counts counts SEC(".data.counts") = {};

/* What is wanted. Addresses as in abi.h; an address family of 0: any. */
const volatile __u64 limit = 0; /* packets */
const volatile __u32 kept = 256;
const volatile __u32 sample = 1; /* one packet of so many */
const volatile __u32 on_ifindex = 0; /* 0: any */
const volatile __u32 verdicts = 0xffffffff; /* bits by enum xdp_action */
const volatile __be32 client[4] = {};
const volatile __be32 client_mask[4] = {};
const volatile __u8 client_family = 0;
const volatile __be32 vip[4] = {};
const volatile __be16 vip_port = 0; /* 0: any */
const volatile __u8 vip_protocol = 0;
const volatile __u8 vip_family = 0;

struct ends {
	__be32 source[4];
	__be32 dest[4];
	__be16 sport, dport; /* 0: none that can be seen */
	__u8 family, protocol;
};

static __always_inline void read_ports(struct ends *ends, const __u8 *headers, __u32 at)
{
	if (ends->protocol != IPPROTO_TCP && ends->protocol != IPPROTO_UDP &&
	    ends->protocol != IPPROTO_SCTP)
		return;
	if (at > HEADERS - 4)
		return;
	ends->sport = *(__be16 *)(headers + at);
	ends->dport = *(__be16 *)(headers + at + 2);
}

/* What lies behind options of IPv6 is not looked for: such a packet has no ports. */
static __always_inline bool read_ends(struct ends *ends, const __u8 *headers)
{
	__be16 type = *(__be16 *)(headers + 12);
	__u32 at = ETH_HLEN;
	int i;

#pragma unroll
	for (i = 0; i < 2; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		type = *(__be16 *)(headers + at + 2);
		at += 4;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		ends->family = FAMILY_IPV4;
		ends->protocol = headers[at + 9];
		ends->source[0] = *(__be32 *)(headers + at + 12);
		ends->dest[0] = *(__be32 *)(headers + at + 16);
		if (!(*(__be16 *)(headers + at + 6) & bpf_htons(0x1fff)))
			read_ports(ends, headers, at + (headers[at] & 0xf) * 4);
		return true;
	}
	if (type == bpf_htons(ETH_P_IPV6)) {
		ends->family = FAMILY_IPV6;
		ends->protocol = headers[at + 6];
		__builtin_memcpy(ends->source, headers + at + 8, 16);
		__builtin_memcpy(ends->dest, headers + at + 24, 16);
		read_ports(ends, headers, at + 40);
		return true;
	}
	return false;
}

static __always_inline bool is_client(const __be32 *addr)
{
	return !((addr[0] ^ client[0]) & client_mask[0]) &&
	       !((addr[1] ^ client[1]) & client_mask[1]) &&
	       !((addr[2] ^ client[2]) & client_mask[2]) &&
	       !((addr[3] ^ client[3]) & client_mask[3]);
}

/* ICMP and later fragments have no ports; the address is enough. */
static __always_inline bool is_vip(const struct ends *ends, const __be32 *addr, __be16 port)
{
	if (addr[0] != vip[0] || addr[1] != vip[1] || addr[2] != vip[2] || addr[3] != vip[3])
		return false;
	if (!ends->sport && !ends->dport)
		return true;
	return ends->protocol == vip_protocol && (!vip_port || port == vip_port);
}

static __always_inline bool matches(const __u8 *headers)
{
	struct ends ends = {};

	if (!client_family && !vip_family)
		return true;
	if (!read_ends(&ends, headers))
		return false;
	if (client_family && (ends.family != client_family ||
			      (!is_client(ends.source) && !is_client(ends.dest))))
		return false;
	return !vip_family ||
	       (ends.family == vip_family && (is_vip(&ends, ends.source, ends.sport) ||
					      is_vip(&ends, ends.dest, ends.dport)));
}

/* Of a packet of several pages only the first one is read. */
static __always_inline __u32 length_of(struct xdp_buff *xdp, __u64 linear)
{
	__u32 tail = (bpf_core_type_size(struct skb_shared_info) + CACHE_LINE - 1) & -CACHE_LINE;
	struct skb_shared_info *info = xdp->data_hard_start + xdp->frame_sz - tail;

	return xdp->flags & HAS_FRAGS ? linear + BPF_CORE_READ(info, xdp_frags_size) : linear;
}

/* The barriers: or clang compares one copy and hands over another, of which 6.1 knows no bounds. */
static __always_inline __u64 keep(struct xdp_buff *xdp, __u8 *to, __u64 most, __u64 linear)
{
	barrier_var(linear);
	if (linear > most)
		linear = most;
	barrier_var(linear);
	if (linear > KEPT_MAX)
		return 0;
	barrier_var(linear);
	if (bpf_probe_read_kernel(to, linear, xdp->data))
		return 0;
	return linear;
}

static __always_inline __u64 linear_of(struct xdp_buff *xdp)
{
	return (__u64)xdp->data_end - (__u64)xdp->data;
}

static __always_inline struct under_way *under_way(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&here, &zero);
}

static __always_inline __u64 counted(__u32 reason)
{
	__u64 *count = bpf_map_lookup_elem(&reasons, &reason);

	return count ? *count : 0;
}

SEC("fentry/kernlb")
int BPF_PROG(enter, struct xdp_buff *xdp)
{
	struct under_way *now;
	__u64 linear;
	__u32 i;

	if (counts.taken >= limit)
		return 0;
	if (on_ifindex && xdp->rxq->dev->ifindex != on_ifindex)
		return 0;
	if (sample > 1 && bpf_get_prandom_u32() % sample)
		return 0;
	now = under_way();
	if (!now)
		return 0;
	linear = linear_of(xdp);
	__builtin_memset(now->headers, 0, HEADERS);
	keep(xdp, now->headers, HEADERS, linear);
	now->matches = matches(now->headers);
	now->seen.time = bpf_ktime_get_ns();
	now->seen.length_before = length_of(xdp, linear);
	now->seen.kept_before = keep(xdp, now->bytes, kept, linear);
#pragma unroll
	for (i = 0; i < REASONS; i++)
		now->counted[i] = counted(i);
	now->packet = (__u64)xdp;
	return 0;
}

SEC("fexit/kernlb")
int BPF_PROG(leave, struct xdp_buff *xdp, int verdict)
{
	struct under_way *now = under_way();
	__u64 linear, before, after;
	__u32 i;

	if (!now || now->packet != (__u64)xdp)
		return 0;
	now->packet = 0;
	if (!(verdicts & 1u << (verdict & 31)))
		return 0;
	linear = linear_of(xdp);
	if (!now->matches) { /* what a server answers has the client's view of it only afterwards */
		__builtin_memset(now->headers, 0, HEADERS);
		keep(xdp, now->headers, HEADERS, linear);
		if (!matches(now->headers))
			return 0;
	}
	if (__sync_fetch_and_add(&counts.taken, 1) >= limit)
		return 0;
	now->seen.reasons = 0; /* there, not in a register: the verifier would follow 2^22 values */
#pragma unroll
	for (i = 0; i < REASONS; i++)
		if (counted(i) != now->counted[i])
			now->seen.reasons |= 1u << i;
	before = now->seen.kept_before;
	if (before > KEPT_MAX)
		return 0;
	barrier_var(before);
	after = keep(xdp, now->bytes + before, kept, linear);
	if (after > KEPT_MAX)
		return 0;
	barrier_var(after);
	now->seen.length_after = length_of(xdp, linear);
	now->seen.kept_after = after;
	now->seen.ifindex = xdp->rxq->dev->ifindex;
	now->seen.queue = xdp->rxq->queue_index;
	now->seen.verdict = verdict;
	if (bpf_ringbuf_output(&ring, now, sizeof(now->seen) + before + after, 0)) {
		__sync_fetch_and_add(&counts.lost, 1);
		__sync_fetch_and_add(&counts.taken, -1); /* another may have its place */
	}
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * probe.bpf.c - carries a health probe at a VIP to the one server that it is meant for.
 *
 * The balancer's own socket sends to the VIP, with a mark; here, at the egress of the interface
 * that the kernel chose for the VIP (lo, where the VIP is local), the packet gets what a client's
 * packet to that server gets from kernlb.bpf.c: a next hop (dsr), or an outer header (tunnel).
 * A marked packet that no path is known for is dropped: delivered here, it would be answered by
 * whoever listens on this host.
 *
 * kernlb/datapath/xdp/probing.py attaches it and fills its map.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "csum.h"
#include "abi.h"

#define AF_INET 2
#define AF_INET6 10
#define MARKS 0x6b000000u /* ours: those with these upper 16 bits */
#define MARKS_MASK 0xffff0000u
#define OUTER_TTL 64
#define DONT_FRAGMENT bpf_htons(0x4000)
#define GUE_FIRST_PORT 49152

/* Addresses as in abi.h. */
struct path {
	__be32 addr[4];	    /* of the server */
	__be32 source[4];   /* ours, of the outer header */
	__be32 next_hop[4]; /* on the device */
	__u32 ifindex;
	__u8 forwarding;
	__u8 family; /* of addr and source */
	__u8 next_hop_family;
	__u8 tunnel;
	__be16 tunnel_port; /* GUE */
	__u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct path);
} paths SEC(".maps");

struct gue {
	__be16 source, dest, length, check;
	__u8 version, protocol;
	__be16 flags;
};

struct gre {
	__be16 flags, type;
};

static __always_inline __u16 ipv4_sum(const struct iphdr *ip)
{
	const __u32 *word = (const void *)ip;
	__u64 sum = 0;
	int i;

	for (i = 0; i < (int)sizeof(*ip) / 4; i++)
		sum += word[i];
	return ~csum_fold(sum);
}

static __always_inline long write_outer_ipv4(struct __sk_buff *skb, const struct path *path, __u8 protocol)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(skb->len - ETH_HLEN),
		.frag_off = DONT_FRAGMENT,
		.ttl = OUTER_TTL,
		.protocol = protocol,
		.saddr = path->source[0],
		.daddr = path->addr[0],
	};

	ip.check = ipv4_sum(&ip);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0);
}

static __always_inline long write_outer_ipv6(struct __sk_buff *skb, const struct path *path, __u8 protocol)
{
	struct ipv6hdr ip = {
		.version = 6,
		.payload_len = bpf_htons(skb->len - ETH_HLEN - sizeof(ip)),
		.nexthdr = protocol,
		.hop_limit = OUTER_TTL,
	};

	__builtin_memcpy(&ip.saddr, path->source, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, path->addr, sizeof(ip.daddr));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0);
}

static __always_inline long write_shim(struct __sk_buff *skb, const struct path *path, __u32 offset,
				       bool inner6, __u32 mark)
{
	if (path->tunnel == TUNNEL_GRE) {
		struct gre gre = { .type = inner6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP) };

		return bpf_skb_store_bytes(skb, offset, &gre, sizeof(gre), 0);
	}
	struct gue gue = {
		.source = bpf_htons(GUE_FIRST_PORT | (mark & 0x3fff)),
		.dest = path->tunnel_port,
		.length = bpf_htons(skb->len - offset),
		.protocol = inner6 ? IPPROTO_IPV6 : IPPROTO_IPIP,
	};
	return bpf_skb_store_bytes(skb, offset, &gue, sizeof(gue), 0);
}

static __always_inline long encapsulate(struct __sk_buff *skb, const struct path *path, bool inner6,
					__u32 mark)
{
	bool outer6 = path->family == FAMILY_IPV6;
	__u32 ip = outer6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__u64 flags = outer6 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;
	__u8 protocol = inner6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	__u32 shim = 0;
	long failed;

	if (path->tunnel == TUNNEL_GUE) {
		protocol = IPPROTO_UDP;
		shim = sizeof(struct gue);
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	} else if (path->tunnel == TUNNEL_GRE) {
		protocol = IPPROTO_GRE;
		shim = sizeof(struct gre);
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_GRE;
	}
	if (bpf_skb_adjust_room(skb, ip + shim, BPF_ADJ_ROOM_MAC, flags))
		return -1;
	failed = outer6 ? write_outer_ipv6(skb, path, protocol) :
			  write_outer_ipv4(skb, path, protocol);
	if (!failed && shim)
		failed = write_shim(skb, path, ETH_HLEN + ip, inner6, mark);
	return failed;
}

SEC("tc")
int probe(struct __sk_buff *skb)
{
	struct bpf_redir_neigh to = {};
	__u32 mark = skb->mark;
	struct path *path;

	if ((mark & MARKS_MASK) != MARKS)
		return TC_ACT_UNSPEC;
	path = bpf_map_lookup_elem(&paths, &mark);
	if (!path)
		return TC_ACT_SHOT;
	if (path->forwarding == FORWARD_TUNNEL &&
	    encapsulate(skb, path, skb->protocol == bpf_htons(ETH_P_IPV6), mark))
		return TC_ACT_SHOT;
	skb->mark = 0; /* or it would come here again where it leaves */
	to.nh_family = path->next_hop_family == FAMILY_IPV6 ? AF_INET6 : AF_INET;
	__builtin_memcpy(to.ipv6_nh, path->next_hop, sizeof(to.ipv6_nh));
	return bpf_redirect_neigh(path->ifindex, &to, sizeof(to), 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";

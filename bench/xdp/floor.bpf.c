// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * floor.bpf.c - the least that an XDP balancer can cost on a machine.
 *
 *   floor_tx       (i)    return XDP_TX
 *   floor_swap     (ii)   parse eth/ip/tcp|udp, swap MACs, XDP_TX
 *   floor_tunnel   (iii)  parse; VIP hash look-up; connection LRU look-up; backend array look-up;
 *                         push an outer IPv4 header with its checksum; XDP_TX
 *   floor_counted         (iii) plus two per-CPU counters (VIP, backend)
 *   floor_dsr             (iii) with new Ethernet addresses instead of the outer header
 *   floor_nat             (iii) with a new destination instead, checksums by difference
 *   floor_answer          the way back: connection look-up, source rewritten
 *   floor_tunnel6         (iii) for IPv6 in IPv6
 *
 * On a miss the backend is picked from a ring of slots by a hash over the flow, and the connection
 * stored (unless the VIP says FLOOR_NO_CONNECTION).  A packet for no VIP is passed.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "floor.h"

enum method { TUNNEL, COUNTED, DSR, NAT };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct floor_vip_key);
	__type(value, struct floor_vip);
	__uint(max_entries, 512);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct floor_vip6_key);
	__type(value, struct floor_vip);
	__uint(max_entries, 512);
} vips6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct floor_flow);
	__type(value, struct floor_conn);
	__uint(max_entries, 1024); /* the harness sets it */
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct floor_flow6);
	__type(value, struct floor_conn);
	__uint(max_entries, 1024);
} conns6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct floor_backend);
	__uint(max_entries, FLOOR_BACKENDS);
} backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct floor_backend);
	__uint(max_entries, FLOOR_BACKENDS);
} backends6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, FLOOR_RING);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct floor_count);
	__uint(max_entries, 512);
} vip_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct floor_count);
	__uint(max_entries, FLOOR_BACKENDS);
} backend_stats SEC(".maps");

SEC("xdp")
int floor_tx(struct xdp_md *ctx)
{
	return XDP_TX;
}

struct parsed {
	struct ethhdr *eth;
	struct iphdr *ip;
	struct ipv6hdr *ip6;
	void *l4;
	__be16 sport, dport;
};

/* Below 0: go on; else the action. */
static __always_inline int parse_ports(void *l4, __u8 protocol, void *end, struct parsed *o)
{
	struct tcphdr *tcp = l4;
	struct udphdr *udp = l4;

	if (protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end)
			return XDP_DROP;
	} else if (protocol == IPPROTO_UDP) {
		if ((void *)(udp + 1) > end)
			return XDP_DROP;
	} else {
		return XDP_PASS;
	}
	o->l4 = l4;
	o->sport = udp->source;
	o->dport = udp->dest;
	return -1;
}

static __always_inline int parse(void *data, void *end, struct parsed *o)
{
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);

	if (data + sizeof(*eth) + sizeof(*ip) > end)
		return XDP_PASS;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->version != 4 || ip->ihl != 5 ||
	    (ip->frag_off & bpf_htons(0x3fff)))
		return XDP_PASS;
	o->eth = eth;
	o->ip = ip;
	return parse_ports(ip + 1, ip->protocol, end, o);
}

static __always_inline int parse6(void *data, void *end, struct parsed *o)
{
	struct ethhdr *eth = data;
	struct ipv6hdr *ip = data + sizeof(*eth);

	if (data + sizeof(*eth) + sizeof(*ip) > end)
		return XDP_PASS;
	if (eth->h_proto != bpf_htons(ETH_P_IPV6) || ip->version != 6)
		return XDP_PASS;
	o->eth = eth;
	o->ip6 = ip;
	return parse_ports(ip + 1, ip->nexthdr, end, o);
}

SEC("xdp")
int floor_swap(struct xdp_md *ctx)
{
	struct parsed p;
	__u8 mac[ETH_ALEN];
	int act = parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, &p);

	if (act >= 0)
		return act;
	__builtin_memcpy(mac, p.eth->h_dest, ETH_ALEN);
	__builtin_memcpy(p.eth->h_dest, p.eth->h_source, ETH_ALEN);
	__builtin_memcpy(p.eth->h_source, mac, ETH_ALEN);
	return XDP_TX;
}

static __always_inline __u32 slot_of(__u64 h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	return (__u32)(h >> 16) & (FLOOR_RING - 1);
}

static __always_inline bool count(void *map, __u32 id, __u32 length)
{
	struct floor_count *n = bpf_map_lookup_elem(map, &id);

	if (!n)
		return false;
	n->packets++;
	n->bytes += length;
	return true;
}

static __always_inline __u16 folded(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Set the word at each of two places, an address and a port, and mend both checksums. */
static __always_inline bool rewrite(struct parsed *p, __be32 *addr, __be32 to, __be16 *port,
				    __be16 to_port, void *end)
{
	__u64 ip_diff = (__u64)(__u32)~*addr + to;
	__u64 diff = ip_diff + (__u16)~*port + to_port;
	struct tcphdr *tcp = p->l4;
	struct udphdr *udp = p->l4;

	*addr = to;
	*port = to_port;
	p->ip->check = ~folded((__u16)~p->ip->check + ip_diff);
	if (p->ip->protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end)
			return false;
		tcp->check = ~folded((__u16)~tcp->check + diff);
	} else if (udp->check) {
		udp->check = ~folded((__u16)~udp->check + diff);
	}
	return true;
}

static __always_inline int push4(struct xdp_md *ctx, const struct floor_backend *b, const __u8 *mac,
				 __u8 tos, __u32 inner)
{
	struct ethhdr *eth;
	struct iphdr *ip;
	__u32 sum;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;

	__builtin_memcpy(eth->h_dest, b->mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
	*(__u16 *)ip = bpf_htons(0x4500 | tos);
	ip->tot_len = bpf_htons(inner + sizeof(*ip));
	*(__u32 *)&ip->id = 0;
	*(__u16 *)&ip->ttl = bpf_htons(64 << 8 | IPPROTO_IPIP);
	ip->saddr = b->local[0];
	ip->daddr = b->addr[0];
	sum = b->sum + bpf_htons(0x4500 | tos) + ip->tot_len + bpf_htons(64 << 8 | IPPROTO_IPIP);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~sum;
	return XDP_TX;
}

static __always_inline int balance(struct xdp_md *ctx, const enum method method)
{
	struct parsed p;
	int act = parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, &p);
	struct floor_vip_key key = {};
	struct floor_flow flow = {};
	struct floor_backend *b;
	struct floor_vip *vip;
	struct floor_conn *c;
	__u32 slot, length, backend;
	__u8 mac[ETH_ALEN], tos;

	if (act >= 0)
		return act;
	key.addr = p.ip->daddr;
	key.port = p.dport;
	key.protocol = p.ip->protocol;
	vip = bpf_map_lookup_elem(&vips, &key);
	if (!vip)
		return XDP_PASS;

	flow.saddr = p.ip->saddr;
	flow.daddr = p.ip->daddr;
	flow.sport = p.sport;
	flow.dport = p.dport;
	flow.protocol = p.ip->protocol;
	length = bpf_ntohs(p.ip->tot_len);
	tos = p.ip->tos;
	__builtin_memcpy(mac, p.eth->h_dest, ETH_ALEN);

	c = vip->flags & FLOOR_NO_CONNECTION ? NULL : bpf_map_lookup_elem(&conns, &flow);
	if (c) {
		backend = c->backend;
	} else {
		struct floor_conn made = {};
		__u32 *r;

		slot = slot_of(((__u64)flow.saddr << 32 | (__u32)flow.sport << 16 | flow.dport) ^
			       (__u64)flow.daddr << 8 ^ flow.protocol);
		r = bpf_map_lookup_elem(&ring, &slot);
		if (!r)
			return XDP_DROP;
		backend = *r;
		if (!(vip->flags & FLOOR_NO_CONNECTION)) {
			made.backend = backend;
			bpf_map_update_elem(&conns, &flow, &made, BPF_ANY);
		}
	}
	b = bpf_map_lookup_elem(&backends, &backend);
	if (!b)
		return XDP_DROP;
	if (method == COUNTED &&
	    (!count(&vip_stats, vip->id, length) || !count(&backend_stats, backend, length)))
		return XDP_DROP;

	if (method == NAT || method == DSR) {
		__builtin_memcpy(p.eth->h_source, mac, ETH_ALEN);
		__builtin_memcpy(p.eth->h_dest, b->mac, ETH_ALEN);
		if (method == NAT &&
		    !rewrite(&p, &p.ip->daddr, b->addr[0], &((struct udphdr *)p.l4)->dest, b->port,
			     (void *)(long)ctx->data_end))
			return XDP_DROP;
		return XDP_TX;
	}
	return push4(ctx, b, mac, tos, length);
}

SEC("xdp")
int floor_tunnel(struct xdp_md *ctx)
{
	return balance(ctx, TUNNEL);
}

SEC("xdp")
int floor_counted(struct xdp_md *ctx)
{
	return balance(ctx, COUNTED);
}

SEC("xdp")
int floor_dsr(struct xdp_md *ctx)
{
	return balance(ctx, DSR);
}

SEC("xdp")
int floor_nat(struct xdp_md *ctx)
{
	return balance(ctx, NAT);
}

/* The harness stores the connections of answers, whose `vip` is the address to put in. */
SEC("xdp")
int floor_answer(struct xdp_md *ctx)
{
	struct parsed p;
	int act = parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, &p);
	struct floor_flow flow = {};
	struct floor_backend *b;
	struct floor_conn *c;
	__u8 mac[ETH_ALEN];

	if (act >= 0)
		return act;
	flow.saddr = p.ip->saddr;
	flow.daddr = p.ip->daddr;
	flow.sport = p.sport;
	flow.dport = p.dport;
	flow.protocol = p.ip->protocol;
	c = bpf_map_lookup_elem(&conns, &flow);
	if (!c)
		return XDP_PASS;
	b = bpf_map_lookup_elem(&backends, &c->backend);
	if (!b)
		return XDP_DROP;
	__builtin_memcpy(mac, p.eth->h_dest, ETH_ALEN);
	__builtin_memcpy(p.eth->h_source, mac, ETH_ALEN);
	__builtin_memcpy(p.eth->h_dest, b->mac, ETH_ALEN);
	if (!rewrite(&p, &p.ip->saddr, c->vip, &((struct udphdr *)p.l4)->source, bpf_htons(80),
		     (void *)(long)ctx->data_end))
		return XDP_DROP;
	return XDP_TX;
}

SEC("xdp")
int floor_tunnel6(struct xdp_md *ctx)
{
	struct parsed p;
	int act = parse6((void *)(long)ctx->data, (void *)(long)ctx->data_end, &p);
	struct floor_vip6_key key = {};
	struct floor_flow6 flow = {};
	struct floor_backend *b;
	struct floor_vip *vip;
	struct floor_conn *c;
	struct ipv6hdr *ip;
	struct ethhdr *eth;
	__u32 slot, length, backend, first;
	__u8 mac[ETH_ALEN];

	if (act >= 0)
		return act;
	__builtin_memcpy(key.addr, &p.ip6->daddr, sizeof(key.addr));
	key.port = p.dport;
	key.protocol = p.ip6->nexthdr;
	vip = bpf_map_lookup_elem(&vips6, &key);
	if (!vip)
		return XDP_PASS;

	__builtin_memcpy(flow.saddr, &p.ip6->saddr, sizeof(flow.saddr) + sizeof(flow.daddr));
	flow.sport = p.sport;
	flow.dport = p.dport;
	flow.protocol = p.ip6->nexthdr;
	length = sizeof(*ip) + bpf_ntohs(p.ip6->payload_len);
	first = *(__u32 *)p.ip6;
	__builtin_memcpy(mac, p.eth->h_dest, ETH_ALEN);

	c = bpf_map_lookup_elem(&conns6, &flow);
	if (c) {
		backend = c->backend;
	} else {
		struct floor_conn made = {};
		__u32 *r;

		slot = slot_of(((__u64)flow.saddr[3] << 32 | (__u32)flow.sport << 16 | flow.dport) ^
			       (__u64)flow.daddr[3] << 8 ^ flow.protocol);
		r = bpf_map_lookup_elem(&ring, &slot);
		if (!r)
			return XDP_DROP;
		backend = *r;
		made.backend = backend;
		bpf_map_update_elem(&conns6, &flow, &made, BPF_ANY);
	}
	b = bpf_map_lookup_elem(&backends6, &backend);
	if (!b)
		return XDP_DROP;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	__builtin_memcpy(eth->h_dest, b->mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IPV6);
	*(__u32 *)ip = first;
	ip->payload_len = bpf_htons(length);
	ip->nexthdr = IPPROTO_IPV6;
	ip->hop_limit = 64;
	__builtin_memcpy(&ip->saddr, b->local, sizeof(b->local));
	__builtin_memcpy(&ip->daddr, b->addr, sizeof(b->addr));
	return XDP_TX;
}

char _license[] SEC("license") = "Dual BSD/GPL";

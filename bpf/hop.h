/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * hop.h - the last step: Ethernet addresses, VLAN tag, and out.
 *
 * A server's next hop is in its entry, kept true by the daemon.  Clients, and servers whose next
 * hop is not known, are looked up in the kernel's FIB.
 */
#ifndef KERNLB_HOP_H
#define KERNLB_HOP_H

#define VLAN_TAG 4
#define AF_INET 2
#define AF_INET6 10

#define HOPS 256
#define HOP_TICKS 4 /* a quarter of a second: how long a route may be wrong after it changed */

/* Where a packet goes next. */
struct way_out {
	struct hop hop;
	__be16 vlan;
	__u8 family;
	__u32 mtu;   /* for the packet as it came; 0: not known */
	__u32 extra; /* bytes that it will grow by */
	__be32 from[4], to[4];
};

/* What the FIB said lately, for one destination that hashes here. */
struct lately {
	__be32 from[4], to[4]; /* routes may depend on either */
	__u32 ingress;
	__u32 tick;
	__u32 mtu;
	__u32 family;
	struct hop hop;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOPS);
	__type(key, __u32);
	__type(value, struct lately);
} hops SEC(".maps");

static __always_inline void hop_of_server(const struct server *server, struct way_out *out)
{
	out->hop = server->hop;
	out->vlan = server->vlan;
	out->mtu = server->mtu;
}

/* The kernel asks for a neighbour's address only for packets of its own: the daemon must. */
static __always_inline void want_neighbour(const struct packet *p, const struct bpf_fib_lookup *fib)
{
	struct neighbour_key key = { .ifindex = fib->ifindex };
	__u32 now = p->now; /* 6.1 takes no value from behind a function's argument */

	if (p->dry)
		return;
	if (fib->family == AF_INET) {
		key.family = FAMILY_IPV4;
		key.addr[0] = fib->ipv4_dst;
	} else {
		key.family = FAMILY_IPV6;
		copy_address(key.addr, fib->ipv6_dst, FAMILY_IPV6);
	}
	bpf_map_update_elem(&unresolved, &key, &now, BPF_NOEXIST);
}

/* A FIB look-up is the dearest part of a reply; clients send more than one packet. */
static __always_inline struct lately *lately_asked(const struct way_out *out)
{
	__u32 word = out->to[0] ^ out->to[1] ^ out->to[2] ^ out->to[3] ^ out->from[0] ^
		     out->from[1] ^ out->from[2] ^ out->from[3];
	__u32 slot = (word * 0x9e3779b1u) >> 24;

	return bpf_map_lookup_elem(&hops, &slot);
}

static __always_inline bool is_answered(const struct lately *lately, const struct packet *p,
					const struct way_out *out, __u32 ingress)
{
	return p->now - lately->tick < HOP_TICKS && lately->family == out->family &&
	       lately->ingress == ingress && lately->to[0] == out->to[0] &&
	       lately->to[1] == out->to[1] && lately->to[2] == out->to[2] &&
	       lately->to[3] == out->to[3] && lately->from[0] == out->from[0] &&
	       lately->from[1] == out->from[1] && lately->from[2] == out->from[2] &&
	       lately->from[3] == out->from[3];
}

static __always_inline enum reason ask_fib(struct xdp_md *ctx, struct packet *p,
					   struct way_out *out)
{
	struct bpf_fib_lookup fib = {
		.ifindex = ctx->ingress_ifindex,
		.tot_len = p->length + out->extra,
	};

	if (out->family == FAMILY_IPV4) {
		fib.family = AF_INET;
		fib.ipv4_src = out->from[0];
		fib.ipv4_dst = out->to[0];
	} else {
		fib.family = AF_INET6;
		copy_address(fib.ipv6_src, out->from, FAMILY_IPV6);
		copy_address(fib.ipv6_dst, out->to, FAMILY_IPV6);
	}
	switch (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		break;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		out->mtu = fib.mtu_result - out->extra;
		return GO_ON; /* the caller compares, and finds it too big */
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		want_neighbour(p, &fib);
		return REASON_NO_NEIGHBOUR;
	default:
		return REASON_NO_ROUTE;
	}
	out->hop.ifindex = fib.ifindex;
	__builtin_memcpy(out->hop.dst, fib.dmac, ETH_ALEN);
	__builtin_memcpy(out->hop.src, fib.smac, ETH_ALEN);
	out->mtu = fib.mtu_result - out->extra;
	return GO_ON;
}

/* Where a packet from out->from to out->to would be routed, had it come in here. */
__noinline int hop_by_fib(struct xdp_md *ctx, struct packet *p, struct way_out *out)
{
	__u32 ingress = ctx->ingress_ifindex;
	struct lately *lately;
	enum reason stop;

	if (!p || !out)
		return REASON_NO_ROUTE;
	p->why.by_fib = 1;
	lately = lately_asked(out);
	if (!lately)
		return REASON_NO_ROUTE;
	if (is_answered(lately, p, out, ingress)) {
		out->hop = lately->hop;
		out->mtu = lately->mtu - out->extra;
		return GO_ON;
	}
	stop = ask_fib(ctx, p, out);
	if (stop != GO_ON || p->length > out->mtu || p->dry)
		return stop;
	lately->family = out->family;
	lately->ingress = ingress;
	lately->tick = p->now;
	lately->mtu = out->mtu + out->extra;
	lately->hop = out->hop;
	copy_address(lately->to, out->to, FAMILY_IPV6);
	copy_address(lately->from, out->from, FAMILY_IPV6);
	return GO_ON;
}

/*
 * A client of nat or fullnat that the kernel has no neighbour entry for, as nobody but us ever
 * speaks to it: until the daemon has had the kernel ask, answers go where its packet came from.
 */
#define RETURN_TICKS 900 /* one minute */

__noinline int learn_return(struct xdp_md *ctx, const struct packet *p)
{
	struct return_key key = {};
	struct return_hop back = {};
	struct ethhdr *eth = start_of(ctx);
	__be16 *tag = (void *)(eth + 1);

	if (!p || p->dry || (void *)(tag + 1) > end_of(ctx))
		return 0;
	if (p->l3 > sizeof(*eth) + VLAN_TAG || eth->h_source[0] & 1 ||
	    (p->l3 != sizeof(*eth) && eth->h_proto != bpf_htons(ETH_P_8021Q)))
		return 0; /* answers leave with one customer's tag at most, and to one machine */
	back.hop.ifindex = ctx->ingress_ifindex;
	__builtin_memcpy(back.hop.dst, eth->h_source, ETH_ALEN);
	__builtin_memcpy(back.hop.src, eth->h_dest, ETH_ALEN);
	if (p->l3 != sizeof(*eth))
		back.vlan = *tag;
	back.seen = p->now;
	copy_address(key.addr, p->flow.addr, FAMILY_IPV6);
	if (p->flow.family == FAMILY_IPV4)
		key.addr[1] = key.addr[2] = key.addr[3] = 0;
	bpf_map_update_elem(&returns, &key, &back, BPF_ANY);
	return 0;
}

static __always_inline bool hop_by_return(const struct packet *p, struct way_out *out)
{
	struct return_hop *back = bpf_map_lookup_elem(&returns, out->to);

	if (!back || (__s32)(p->now - back->seen) > RETURN_TICKS)
		return false;
	out->hop = back->hop;
	out->vlan = back->vlan;
	out->mtu = 0;
	return true;
}

/* Length of the Ethernet header with its tags, on the way out. */
static __always_inline __u32 ethernet_length(const struct way_out *out)
{
	return sizeof(struct ethhdr) + (out->vlan ? VLAN_TAG : 0);
}

/* Make room for `more` bytes between Ethernet and IP; p->l3 is where they begin afterwards. */
static __always_inline bool make_room(struct xdp_md *ctx, struct packet *p, const struct way_out *out, __u32 more)
{
	__u32 l3 = ethernet_length(out);
	int grow = l3 + more - p->l3;

	if (grow && bpf_xdp_adjust_head(ctx, -grow))
		return false;
	p->l3 = l3;
	return true;
}

static __always_inline bool write_ethernet(struct xdp_md *ctx, struct packet *p, const struct way_out *out, __be16 type)
{
	struct ethhdr *eth = start_of(ctx);
	__be16 *tag = (void *)(eth + 1);

	if ((void *)(eth + 1) > end_of(ctx))
		return false;
	__builtin_memcpy(eth->h_dest, out->hop.dst, ETH_ALEN);
	__builtin_memcpy(eth->h_source, out->hop.src, ETH_ALEN);
	eth->h_proto = type;
	if (!out->vlan)
		return true;
	if ((void *)(tag + 2) > end_of(ctx))
		return false;
	eth->h_proto = bpf_htons(ETH_P_8021Q);
	tag[0] = out->vlan;
	tag[1] = type;
	return true;
}

/* XDP_DROP: the interface is none that the datapath sends through. */
static __always_inline int out_through(struct xdp_md *ctx, __u32 ifindex)
{
	if (ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect_map(&devices, ifindex, XDP_DROP);
}

/* Returns the reason given, for a packet that goes out. */
static __always_inline enum reason send(struct xdp_md *ctx, struct packet *p,
					const struct way_out *out, enum reason reason)
{
	p->why.ifindex = out->hop.ifindex;
	p->action = out_through(ctx, out->hop.ifindex);
	return p->action == XDP_DROP ? REASON_NO_ROUTE : reason;
}

#endif

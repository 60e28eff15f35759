/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * forward.h - a packet on its way to its server, by each forwarding method.
 *
 *   dsr      new Ethernet addresses; the server holds the VIP
 *   tunnel   an outer header in front; the server holds the VIP and undoes it
 *   nat      destination becomes the server; its answers come back through here
 *   fullnat  source becomes one of ours as well; answers come back wherever the server is
 *
 * Checksums change by difference.  The TTL goes down by one, as in any router (and in IPVS).
 */
#ifndef KERNLB_FORWARD_H
#define KERNLB_FORWARD_H

#define OUTER_TTL 64
#define GUE_HEADER 4
#define GRE_HEADER 4
#define GUE_FIRST_PORT 49152

/* What translation writes. */
struct rewrite {
	const __be32 *source, *destination;
	__be16 sport, dport;
};

static __always_inline __u16 *check_of(const struct packet *p, void *l4)
{
	if (p->flow.protocol == IPPROTO_TCP)
		return l4 + offsetof(struct tcphdr, check);
	return l4 + offsetof(struct udphdr, check);
}

static __always_inline __u64 address_diff(const __be32 *from, const __be32 *to, const __u8 family)
{
	__u64 diff = csum_diff32(from[0], to[0]);

	if (family == FAMILY_IPV6) {
		diff += csum_diff32(from[1], to[1]);
		diff += csum_diff32(from[2], to[2]);
		diff += csum_diff32(from[3], to[3]);
	}
	/* words are cheaper to read again than to keep on a stack of 512 bytes */
	asm volatile("" : "+r"(diff) : : "memory");
	return diff;
}

/* One hop less to live. */
static __always_inline bool age(struct xdp_md *ctx, struct packet *p, const __u8 family)
{
	struct iphdr *ip = at(ctx, p->l3);
	struct ipv6hdr *ip6 = (void *)ip;

	if (family == FAMILY_IPV6) {
		if ((void *)(ip6 + 1) > end_of(ctx))
			return false;
		ip6->hop_limit--;
		return true;
	}
	if ((void *)(ip + 1) > end_of(ctx))
		return false;
	ip->check = csum_update(ip->check, csum_diff16(bpf_htons(ip->ttl << 8),
						       bpf_htons((ip->ttl - 1) << 8)));
	ip->ttl--;
	return true;
}

/* New addresses and ports in place. */
static __always_inline bool translate(struct xdp_md *ctx, struct packet *p, const struct rewrite *to, const __u8 family)
{
	struct iphdr *ip = at(ctx, p->l3);
	struct ipv6hdr *ip6 = (void *)ip;
	__be16 *ports = at(ctx, p->l4);
	__u64 diff = address_diff(source_of(&p->flow, family), to->source, family) +
		     address_diff(destination_of(&p->flow, family), to->destination, family);
	__u16 *check = check_of(p, ports);

	if (family == FAMILY_IPV4) {
		if ((void *)(ip + 1) > end_of(ctx))
			return false;
		ip->saddr = to->source[0];
		ip->daddr = to->destination[0];
		ip->check = csum_update(ip->check, diff);
	} else {
		if ((void *)(ip6 + 1) > end_of(ctx))
			return false;
		__builtin_memcpy(&ip6->saddr, to->source, sizeof(ip6->saddr));
		__builtin_memcpy(&ip6->daddr, to->destination, sizeof(ip6->daddr));
	}
	if (p->fragment == FRAGMENT_LATER) /* it has no ports */
		return true;
	if (p->flow.protocol == IPPROTO_SCTP) /* its checksum covers the ports: they stay */
		return to->sport == p->flow.sport && to->dport == p->flow.dport;
	if ((void *)(check + 1) > end_of(ctx))
		return false;
	diff += csum_diff16(p->flow.sport, to->sport) + csum_diff16(p->flow.dport, to->dport);
	ports[0] = to->sport;
	ports[1] = to->dport;
	*check = p->flow.protocol == IPPROTO_TCP ? csum_update(*check, diff) :
						   csum_update_udp(*check, diff);
	return true;
}

/* Bytes in front of the packet. */
static __always_inline __u32 outer_length(const struct server *server)
{
	__u32 ip = server->family == FAMILY_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	switch (server->tunnel) {
	case TUNNEL_GUE:
		return ip + sizeof(struct udphdr) + GUE_HEADER;
	case TUNNEL_GRE:
		return ip + GRE_HEADER;
	default:
		return ip;
	}
}

static __always_inline bool write_outer_ipv4(struct xdp_md *ctx, struct packet *p, const struct server *server,
					     __u8 protocol, __u32 length)
{
	struct iphdr *ip = at(ctx, p->l3);
	__u16 *words = (void *)ip;

	if ((void *)(ip + 1) > end_of(ctx))
		return false;
	words[0] = bpf_htons(0x4500 | p->tos);
	ip->tot_len = bpf_htons(length);
	ip->id = p->dont_fragment ? 0 : (__u16)p->fragment_id;
	ip->frag_off = p->dont_fragment ? IPV4_DONT_FRAGMENT : 0;
	words[4] = bpf_htons(OUTER_TTL << 8 | protocol);
	ip->saddr = server->source[0];
	ip->daddr = server->addr[0];
	ip->check = ~csum_fold((__u64)server->outer_sum + words[0] + ip->tot_len + ip->id +
			       ip->frag_off + words[4]);
	return true;
}

static __always_inline bool write_outer_ipv6(struct xdp_md *ctx, struct packet *p, const struct server *server,
					     __u8 protocol, __u32 payload)
{
	struct ipv6hdr *ip = at(ctx, p->l3);

	if ((void *)(ip + 1) > end_of(ctx))
		return false;
	*(__be32 *)ip = bpf_htonl(6u << 28 | (__u32)p->tos << 20);
	ip->payload_len = bpf_htons(payload);
	ip->nexthdr = protocol;
	ip->hop_limit = OUTER_TTL;
	__builtin_memcpy(&ip->saddr, server->source, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, server->addr, sizeof(ip->daddr));
	return true;
}

/* GUE (UDP to a port of the server's, then 4 bytes) or GRE (4 bytes); `length` from here on. */
static __always_inline bool write_shim(struct xdp_md *ctx, struct packet *p, const struct server *server, void *at,
				       __u32 length, const __u8 family)
{
	__be16 *words = at;

	if (server->tunnel == TUNNEL_GRE) {
		if (at + GRE_HEADER > end_of(ctx))
			return false;
		words[0] = 0;
		words[1] = family == FAMILY_IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
		return true;
	}
	if (at + sizeof(struct udphdr) + GUE_HEADER > end_of(ctx))
		return false;
	/* the source port spreads flows over the queues of whoever is on the way */
	words[0] = bpf_htons(GUE_FIRST_PORT | ((flow_hash(&p->flow, family) >> 32) & 0x3fff));
	words[1] = server->tunnel_port;
	words[2] = bpf_htons(length);
	words[3] = 0;
	words[4] = bpf_htons(family == FAMILY_IPV4 ? IPPROTO_IPIP : IPPROTO_IPV6);
	words[5] = 0;
	return true;
}

static __always_inline enum reason encapsulate(struct xdp_md *ctx, struct packet *p, const struct server *server,
					       const struct way_out *out, const __u8 family)
{
	__u32 more = outer_length(server), ip_length = sizeof(struct iphdr);
	__u8 protocol = server->tunnel == TUNNEL_GUE ? IPPROTO_UDP :
			server->tunnel == TUNNEL_GRE ? IPPROTO_GRE :
			family == FAMILY_IPV4	     ? IPPROTO_IPIP :
						       IPPROTO_IPV6;
	__be16 type = bpf_htons(ETH_P_IP);

	if (!make_room(ctx, p, out, more))
		return REASON_NO_HEADROOM;
	if (server->family == FAMILY_IPV4) {
		if (!write_outer_ipv4(ctx, p, server, protocol, p->length + more))
			return REASON_NO_HEADROOM;
	} else {
		ip_length = sizeof(struct ipv6hdr);
		type = bpf_htons(ETH_P_IPV6);
		if (!write_outer_ipv6(ctx, p, server, protocol, p->length + more - ip_length))
			return REASON_NO_HEADROOM;
	}
	if (server->tunnel != TUNNEL_IPIP &&
	    !write_shim(ctx, p, server, at(ctx, p->l3 + ip_length), p->length + more - ip_length, family))
		return REASON_NO_HEADROOM;
	return write_ethernet(ctx, p, out, type) ? GO_ON : REASON_NO_HEADROOM;
}

static __always_inline enum reason way_to(struct xdp_md *ctx, struct packet *p, const struct server *server,
					  struct way_out *out)
{
	if (server->flags & SERVER_HOP_KNOWN) {
		hop_of_server(server, out);
		return GO_ON;
	}
	out->extra = server->forwarding == FORWARD_TUNNEL ? outer_length(server) : 0;
	out->family = server->family;
	copy_address(out->from, server->source, FAMILY_IPV6);
	copy_address(out->to, server->addr, FAMILY_IPV6);
	return hop_by_fib(ctx, p, out);
}

/* nat and fullnat: what the server is to see. */
static __always_inline bool translate_for(struct xdp_md *ctx, struct packet *p,
					  const struct server *server, const __u8 family)
{
	struct rewrite to = {
		.source = source_of(&p->flow, family),
		.destination = server->addr,
		.sport = p->flow.sport,
		.dport = server->port ?: p->flow.dport,
	};

	if (server->forwarding == FORWARD_FULLNAT) {
		to.source = server->source;
		to.sport = p->source_port;
	}
	return translate(ctx, p, &to, family);
}

/* The way is known, and is it wide enough? */
static __always_inline enum reason may_pass(struct packet *p, const struct way_out *out)
{
	if (p->ttl <= 1)
		return REASON_TTL_EXPIRED;
	if (out->mtu && p->length > out->mtu) {
		p->mtu = out->mtu;
		return REASON_TOO_BIG;
	}
	return GO_ON;
}

static __always_inline enum reason forward_by(struct xdp_md *ctx, struct packet *p,
					      const struct server *server,
					      const struct way_out *out, const __u8 family)
{
	__be16 type = family == FAMILY_IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	enum reason stop = may_pass(p, out);

	if (stop != GO_ON)
		return stop;
	if (!age(ctx, p, family))
		return REASON_MALFORMED;
	if (server->forwarding == FORWARD_TUNNEL) {
		stop = encapsulate(ctx, p, server, out, family);
		if (stop != GO_ON)
			return stop;
	} else if (!make_room(ctx, p, out, 0) || !write_ethernet(ctx, p, out, type)) {
		return REASON_NO_HEADROOM;
	}
	return send(ctx, p, out, REASON_FORWARDED);
}

static __always_inline enum reason forward_any(struct xdp_md *ctx, struct packet *p,
					       const struct server *server, const __u8 family)
{
	struct way_out out = {};
	enum reason stop = way_to(ctx, p, server, &out);

	if (stop == GO_ON)
		stop = may_pass(p, &out);
	if (stop != GO_ON)
		return stop;
	if (server->forwarding >= FORWARD_NAT && !translate_for(ctx, p, server, family))
		return REASON_UNSUPPORTED;
	return forward_by(ctx, p, server, &out, family);
}

/* Every other way: nat, fullnat, and next hops that the FIB is asked for. */
__noinline int forward(struct xdp_md *ctx, struct packet *p)
{
	struct server *server;

	if (!p)
		return REASON_MALFORMED;
	server = server_at(p->why.server);
	if (!server)
		return REASON_NO_SERVER;
	return p->flow.family == FAMILY_IPV4 ? forward_any(ctx, p, server, FAMILY_IPV4) :
					       forward_any(ctx, p, server, FAMILY_IPV6);
}

#endif

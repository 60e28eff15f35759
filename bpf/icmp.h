/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * icmp.h - echo to a VIP, and errors that quote a balanced flow.
 *
 * An error must reach whoever sent the quoted packet, or path MTU discovery dies (RFC 8900):
 *
 *   sent to a VIP            quotes an answer of a server's: goes to that server
 *   sent by or near a server quotes what nat made of a client's packet: goes to the client, with
 *                            the quotation as the client knows it
 *
 * Everything else of ICMP is left to the kernel's stack.
 */
#ifndef KERNLB_ICMP_H
#define KERNLB_ICMP_H

static __always_inline __u8 icmp_type(const __u8 family, bool request)
{
	if (family == FAMILY_IPV4)
		return request ? ICMP_ECHO : ICMP_ECHOREPLY;
	return request ? ICMPV6_ECHO_REQUEST : ICMPV6_ECHO_REPLY;
}

/* Where the quotation is. */
struct quotation {
	__u16 l3, l4;
};

static __always_inline bool is_error(__u8 type, const __u8 family)
{
	if (family == FAMILY_IPV6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* Finds the quotation, and the flow that the quoted packet's answers would have. */
static __always_inline bool parse_quotation(struct xdp_md *ctx, const struct packet *p,
					    struct quotation *q, struct flow *flow,
					    const __u8 family)
{
	struct iphdr *ip;
	struct ipv6hdr *ip6;
	__be16 *ports;

	q->l3 = p->l4 + ICMP_HEADER;
	ip = at(ctx, q->l3);
	ip6 = (void *)ip;
	flow->family = family;
	if (family == FAMILY_IPV4) {
		if ((void *)(ip + 1) > end_of(ctx) || ip->version != 4 || ip->ihl < 5 ||
		    ip->frag_off & IPV4_FRAGMENT_OFFSET)
			return false;
		flow->addr[0] = ip->daddr;
		flow->addr[1] = ip->saddr;
		flow->protocol = ip->protocol;
		q->l4 = q->l3 + ip->ihl * 4;
	} else {
		if ((void *)(ip6 + 1) > end_of(ctx) || ip6->version != 6)
			return false;
		copy_address(flow->addr, ip6->daddr.in6_u.u6_addr32, FAMILY_IPV6);
		copy_address(flow->addr + 4, ip6->saddr.in6_u.u6_addr32, FAMILY_IPV6);
		flow->protocol = ip6->nexthdr;
		q->l4 = q->l3 + sizeof(*ip6);
	}
	if (flow->protocol != IPPROTO_TCP && flow->protocol != IPPROTO_UDP &&
	    flow->protocol != IPPROTO_SCTP)
		return false;
	ports = at(ctx, q->l4);
	if ((void *)(ports + 4) > end_of(ctx) ||
	    q->l4 + QUOTED_TRANSPORT > p->l3 + p->length) /* behind it may be padding */
		return false;
	flow->sport = ports[1];
	flow->dport = ports[0];
	return true;
}

/* An address in the packet becomes another; returns the difference to the sum. */
static __always_inline __u64 replace_address(__be32 *at, const __be32 *to, const __u8 family)
{
	__u64 diff = address_diff(at, to, family);

	copy_address(at, to, family);
	return diff;
}

static __always_inline __u64 replace_port(__be16 *at, __be16 to)
{
	__u64 diff = csum_diff16(*at, to);

	*at = to;
	return diff;
}

/*
 * Write new addresses and ports into the packet and into its quotation.  Of an IPv4 quotation the
 * header's checksum makes up for the addresses, so that in the ICMP checksum only ports count.
 */
static __always_inline bool translate_error(struct xdp_md *ctx, struct packet *p,
					    const struct quotation *q,
					    const struct rewrite *outer,
					    const struct rewrite *inner, const __u8 family)
{
	struct iphdr *ip = at(ctx, p->l3), *quoted = at(ctx, q->l3);
	struct ipv6hdr *ip6 = (void *)ip, *quoted6 = (void *)quoted;
	__be16 *ports = at(ctx, q->l4), *icmp = at(ctx, p->l4);
	__u64 diff;

	if ((void *)(ports + 2) > end_of(ctx) || (void *)(icmp + 2) > end_of(ctx))
		return false;
	if (family == FAMILY_IPV4) {
		if ((void *)(ip + 1) > end_of(ctx) || (void *)(quoted + 1) > end_of(ctx))
			return false;
		diff = replace_address(&ip->saddr, outer->source, family);
		diff += replace_address(&ip->daddr, outer->destination, family);
		ip->check = csum_update(ip->check, diff);
		diff = replace_address(&quoted->saddr, inner->source, family);
		diff += replace_address(&quoted->daddr, inner->destination, family);
		diff += replace_port(&quoted->check, csum_update(quoted->check, diff));
	} else {
		if ((void *)(ip6 + 1) > end_of(ctx) || (void *)(quoted6 + 1) > end_of(ctx))
			return false;
		/* ICMPv6 covers a pseudo header */
		diff = replace_address(ip6->saddr.in6_u.u6_addr32, outer->source, family);
		diff += replace_address(ip6->daddr.in6_u.u6_addr32, outer->destination, family);
		diff += replace_address(quoted6->saddr.in6_u.u6_addr32, inner->source, family);
		diff += replace_address(quoted6->daddr.in6_u.u6_addr32, inner->destination,
					family);
	}
	diff += replace_port(ports, inner->sport);
	diff += replace_port(ports + 1, inner->dport);
	icmp[1] = csum_update(icmp[1], diff);
	return true;
}

/* The server of a flow that needs no memory: hashed. */
static __noinline __u32 server_by_hash(const struct flow *flow, __u32 marks)
{
	struct service *service = service_at(service_of(flow, marks));

	if (!service || !is_hashed(service))
		return NONE;
	return select_by_hash(service, client_of(flow, service));
}

/*
 * nat and fullnat: the error as the server is to see it, which answered to `client`'s address or to
 * ours.
 */
static __always_inline bool translate_to_server(struct xdp_md *ctx, struct packet *p,
						const struct quotation *q,
						const struct server *server,
						const struct flow *flow, const __u8 family)
{
	const bool full = server->forwarding == FORWARD_FULLNAT;
	struct rewrite outer = {
		.source = p->flow.addr,
		.destination = server->addr,
	};
	struct rewrite inner = {
		.source = server->addr,
		.destination = flow->addr,
		.sport = server->port ?: flow->dport,
		.dport = flow->sport,
	};

	if (full) {
		inner.destination = server->source;
		inner.dport = p->source_port;
	}
	return translate_error(ctx, p, q, &outer, &inner, family);
}

/* To the server (p->why.server) whose answer is quoted. */
static __always_inline enum reason to_server_by(struct xdp_md *ctx, struct packet *p,
						const struct quotation *q, const struct flow *flow,
						const __u8 family)
{
	__be16 type = family == FAMILY_IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	struct server *server = server_at(p->why.server);
	struct way_out out = {};
	enum reason stop;

	if (!server)
		return REASON_ICMP_UNMATCHED;
	stop = way_to(ctx, p, server, &out);
	if (stop != GO_ON)
		return stop;
	if (out.mtu && p->length > out.mtu)
		return REASON_TOO_BIG;
	if (!age(ctx, p, family))
		return REASON_MALFORMED;
	if (server->forwarding == FORWARD_TUNNEL) {
		stop = encapsulate(ctx, p, server, &out, family);
		if (stop != GO_ON)
			return stop;
	} else {
		if (server->forwarding != FORWARD_DSR &&
		    !translate_to_server(ctx, p, q, server, flow, family))
			return REASON_ICMP_UNMATCHED;
		if (!make_room(ctx, p, &out, 0) || !write_ethernet(ctx, p, &out, type))
			return REASON_NO_HEADROOM;
	}
	return send(ctx, p, &out, REASON_ICMP_FORWARDED);
}

/* To the client whose packet, as a server of nat or fullnat saw it, is quoted. */
static __always_inline enum reason to_client_by(struct xdp_md *ctx, struct packet *p,
						const struct quotation *q, const __u8 family)
{
	__be16 type = family == FAMILY_IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	const struct conn *conn = conn_at(p->why.conn, family);
	struct rewrite outer, inner;
	struct way_out out = {};
	const __be32 *client, *vip;
	enum reason stop;

	if (!conn)
		return REASON_NOT_OURS;
	client = conn->addr;
	vip = conn->addr + words_of(family);
	outer.source = vip;
	outer.destination = client;
	inner.source = client;
	inner.destination = vip;
	inner.sport = conn->sport;
	inner.dport = conn->dport;
	out.family = family;
	copy_address(out.from, vip, family);
	copy_address(out.to, client, family);
	stop = hop_by_fib(ctx, p, &out);
	if (stop != GO_ON)
		return stop;
	if (!age(ctx, p, family) || !translate_error(ctx, p, q, &outer, &inner, family))
		return REASON_ICMP_UNMATCHED;
	if (!make_room(ctx, p, &out, 0) || !write_ethernet(ctx, p, &out, type))
		return REASON_NO_HEADROOM;
	return send(ctx, p, &out, REASON_ICMP_FORWARDED);
}

/* A function each: what they need of the stack must not add up. */
__noinline int icmp_to_server4(struct xdp_md *ctx, struct packet *p, const struct quotation *q,
			       const struct flow *flow)
{
	return p && q && flow ? to_server_by(ctx, p, q, flow, FAMILY_IPV4) : REASON_NOT_OURS;
}

__noinline int icmp_to_server6(struct xdp_md *ctx, struct packet *p, const struct quotation *q,
			       const struct flow *flow)
{
	return p && q && flow ? to_server_by(ctx, p, q, flow, FAMILY_IPV6) : REASON_NOT_OURS;
}

__noinline int icmp_to_client4(struct xdp_md *ctx, struct packet *p, const struct quotation *q)
{
	return p && q ? to_client_by(ctx, p, q, FAMILY_IPV4) : REASON_NOT_OURS;
}

__noinline int icmp_to_client6(struct xdp_md *ctx, struct packet *p, const struct quotation *q)
{
	return p && q ? to_client_by(ctx, p, q, FAMILY_IPV6) : REASON_NOT_OURS;
}

enum quoted {
	QUOTED_NOTHING, /* of ours */
	QUOTED_ANSWER,	/* a server's: p->why.server */
	QUOTED_REQUEST, /* a client's: p->why.conn */
};

/* Whose flow is quoted? */
__noinline int match_flow(struct packet *p, const struct flow *flow)
{
	struct found found = {};
	struct conn *conn;

	if (!p || !flow)
		return QUOTED_NOTHING;
	if (!conn_find(flow, &found)) {
		if (!(p->marks & MARK_VIP))
			return QUOTED_NOTHING;
		p->why.server = server_by_hash(flow, p->marks);
		return p->why.server != NONE ? QUOTED_ANSWER : QUOTED_NOTHING;
	}
	if (found.word.flags & CONN_REVERSE) {
		conn = connection_of(found.index, &found, flow->family);
		p->why.conn = found.index;
		return conn ? QUOTED_REQUEST : QUOTED_NOTHING;
	}
	conn = conn_at(found.index, flow->family);
	if (!conn || !server_of_ref(found.word.server))
		return QUOTED_NOTHING;
	p->why.conn = found.index;
	p->why.server = SERVER_ID(found.word.server);
	p->source_port = conn->source_port;
	return QUOTED_ANSWER;
}

/* Errors go to the source of what they quote (RFC 1122, 3.2.2; RFC 4443, 2.4). */
static __always_inline bool is_addressed_well(struct packet *p, const struct flow *flow,
					      const __u8 family)
{
	const __be32 *to = destination_of(&p->flow, family), *from = flow->addr + words_of(family);

	if (family == FAMILY_IPV4)
		return to[0] == from[0];
	return to[0] == from[0] && to[1] == from[1] && to[2] == from[2] && to[3] == from[3];
}

/* An error that quotes a flow: of ours, and in which direction? */
static __always_inline enum reason icmp_error(struct xdp_md *ctx, struct packet *p,
					      const __u8 family)
{
	struct quotation q = {};
	struct flow flow = {};
	enum quoted quoted;

	if (!parse_quotation(ctx, p, &q, &flow, family) || !is_addressed_well(p, &flow, family))
		return REASON_NOT_OURS;
	quoted = match_flow(p, &flow);
	if (quoted == QUOTED_NOTHING)
		return p->marks & MARK_VIP ? REASON_ICMP_UNMATCHED : REASON_NOT_OURS;
	if (p->ttl <= 1)
		return REASON_TTL_EXPIRED;
	if (quoted == QUOTED_REQUEST)
		return family == FAMILY_IPV4 ? icmp_to_client4(ctx, p, &q) :
					       icmp_to_client6(ctx, p, &q);
	return family == FAMILY_IPV4 ? icmp_to_server4(ctx, p, &q, &flow) :
				       icmp_to_server6(ctx, p, &q, &flow);
}

/* The question becomes the answer: type, addresses, TTL. */
static __always_inline enum reason answer_echo(struct xdp_md *ctx, struct packet *p, const __u8 family)
{
	struct iphdr *ip = at(ctx, p->l3);
	struct ipv6hdr *ip6 = (void *)ip;
	struct icmp_header *icmp = at(ctx, p->l4);
	__u8 asked = icmp_type(family, true), answered = icmp_type(family, false);

	if (!is_host(p->flow.addr, family))
		return REASON_NOT_OURS;
	if (!swap_ethernet(ctx))
		return REASON_MALFORMED;
	ip = at(ctx, p->l3);
	ip6 = (void *)ip;
	icmp = at(ctx, p->l4);
	if ((void *)(icmp + 1) > end_of(ctx))
		return REASON_MALFORMED;
	icmp->type = answered;
	icmp->checksum = csum_update(icmp->checksum, csum_diff16(bpf_htons(asked << 8),
								 bpf_htons(answered << 8)));
	if (!icmp->checksum) /* nothing but zeros is the one content that RFC 1624 fails for */
		icmp->checksum = 0xffff;
	if (family == FAMILY_IPV4) {
		if ((void *)(ip + 1) > end_of(ctx))
			return REASON_MALFORMED;
		ip->check = csum_update(ip->check, csum_diff16(bpf_htons(ip->ttl << 8),
							       bpf_htons(ANSWER_TTL << 8)));
		ip->ttl = ANSWER_TTL;
		ip->saddr = p->flow.addr[1];
		ip->daddr = p->flow.addr[0];
	} else {
		if ((void *)(ip6 + 1) > end_of(ctx))
			return REASON_MALFORMED;
		ip6->hop_limit = ANSWER_TTL;
		__builtin_memcpy(&ip6->saddr, p->flow.addr + 4, 16);
		__builtin_memcpy(&ip6->daddr, p->flow.addr, 16);
	}
	p->action = XDP_TX;
	return REASON_ECHO_ANSWERED;
}

/* Something that nat or fullnat sent to a server did not get there, or nobody wanted it. */
__noinline int note_unreachable(const struct packet *p)
{
	struct conn *conn = p ? conn_at(p->why.conn, p->flow.family) : NULL;
	struct signals *noted = conn ? signals_of(conn->word.server) : NULL;

	if (noted && !p->dry)
		noted->unreachable++;
	return 0;
}

static __always_inline bool is_unreachable(const struct icmp_header *icmp, const __u8 family)
{
	if (family == FAMILY_IPV6)
		return icmp->type == ICMPV6_DEST_UNREACH;
	return icmp->type == ICMP_DEST_UNREACH && icmp->code != ICMP_FRAG_NEEDED;
}

static __always_inline enum reason handle_icmp_by(struct xdp_md *ctx, struct packet *p,
						  const __u8 family)
{
	struct icmp_header *icmp = at(ctx, p->l4);
	enum reason reason;
	bool unreachable;

	/* a VIP on this host has its pings put together again by the stack */
	if (p->fragment != FRAGMENT_NOT || p->l4 + ICMP_HEADER > p->l3 + p->length ||
	    (void *)(icmp + 1) > end_of(ctx))
		return REASON_NOT_OURS;
	if (icmp->type == icmp_type(family, true) && p->marks & MARK_VIP && vip_protocols(&p->flow))
		return answer_echo(ctx, p, family);
	if (!is_error(icmp->type, family))
		return REASON_NOT_OURS;
	unreachable = is_unreachable(icmp, family);
	reason = icmp_error(ctx, p, family);
	if (unreachable && reason == REASON_ICMP_FORWARDED && p->why.server == NONE)
		note_unreachable(p); /* it went to a client */
	return reason;
}

__noinline int handle_icmp(struct xdp_md *ctx, struct packet *p)
{
	if (!p)
		return REASON_NOT_OURS;
	return p->flow.family == FAMILY_IPV4 ? handle_icmp_by(ctx, p, FAMILY_IPV4) :
					       handle_icmp_by(ctx, p, FAMILY_IPV6);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * express.h - the short way, for what nearly all packets are.
 *
 * A packet of an established connection, without VLAN tag, options or fragmentation, to a server
 * of dsr or IPIP whose next hop is known, or a packet that is not ours: all in one function, in
 * registers, each word of a header written once.  Whatever is not so goes the long way, untouched:
 * express decides nothing that balance() would not decide alike, it only decides it sooner (2 to 3
 * times; docs/performance.md).
 */
#ifndef KERNLB_EXPRESS_H
#define KERNLB_EXPRESS_H

#define LONG_WAY (-1)

/* What of the packet is still needed after its flow was looked up. */
struct express {
	struct flow flow;
	__u32 length;
	__u16 first;   /* IPv4: version, length, TOS as they lie.  IPv6: traffic class */
	__u16 id, dont_fragment;
	__u8 ttl;
};

static __always_inline void copy_mac(__u8 *to, const __u8 *from)
{
	*(__u32 *)to = *(const __u32 *)from;
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

/* A connection in midstream: no packet can change its state, but for time. */
static __always_inline bool is_midstream(union conn_word word, __u8 protocol, __u8 tcp_flags)
{
	if (word.flags & CONN_REVERSE)
		return false;
	if (protocol == IPPROTO_TCP)
		return word.state == STATE_ESTABLISHED &&
		       (tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) == TCP_ACK;
	return word.state == STATE_UDP && word.flags & CONN_CONFIRMED;
}

static __always_inline bool is_express(const struct server *server, __u32 length)
{
	return server->forwarding <= FORWARD_TUNNEL && server->tunnel == TUNNEL_IPIP &&
	       !server->vlan && server->flags & SERVER_HOP_KNOWN &&
	       (!server->mtu || length <= server->mtu);
}

/* Addresses, or REASON_NOT_OURS; GO_ON. */
static __always_inline enum reason express_parse4(void *l3, struct express *e)
{
	struct iphdr *ip = l3;

	e->flow.addr[0] = ip->saddr;
	e->flow.addr[1] = ip->daddr;
	e->flow.protocol = ip->protocol;
	e->first = *(__u16 *)ip;
	e->length = bpf_ntohs(ip->tot_len);
	e->id = ip->id;
	e->dont_fragment = ip->frag_off;
	e->ttl = ip->ttl;
	if (!(marks_of(e->flow.addr + 1, FAMILY_IPV4) & (MARK_VIP | MARK_ANY_PORT)) &&
	    !(marks_of(e->flow.addr, FAMILY_IPV4) & MARK_SERVER))
		return e->flow.protocol == IPPROTO_ICMP ? LONG_WAY : REASON_NOT_OURS;
	if (ip->version != 4 || ip->ihl != 5 || e->dont_fragment & ~IPV4_DONT_FRAGMENT)
		return LONG_WAY;
	return GO_ON;
}

static __always_inline enum reason express_parse6(void *l3, struct express *e)
{
	struct ipv6hdr *ip = l3;

	copy_address(e->flow.addr, ip->saddr.in6_u.u6_addr32, FAMILY_IPV6);
	copy_address(e->flow.addr + 4, ip->daddr.in6_u.u6_addr32, FAMILY_IPV6);
	e->flow.protocol = ip->nexthdr;
	e->first = (bpf_ntohl(*(__be32 *)ip) >> 20) & 0xff;
	e->length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	e->dont_fragment = IPV4_DONT_FRAGMENT;
	e->ttl = ip->hop_limit;
	if (!(marks_of(e->flow.addr + 4, FAMILY_IPV6) & (MARK_VIP | MARK_ANY_PORT)) &&
	    !(marks_of(e->flow.addr, FAMILY_IPV6) & MARK_SERVER))
		return e->flow.protocol == IPPROTO_ICMPV6 ? LONG_WAY : REASON_NOT_OURS;
	return ip->version == 6 ? GO_ON : LONG_WAY;
}

/* One hop less: of IPv4, the high byte of a word goes down by one, and its checksum up. */
static __always_inline bool express_age(struct xdp_md *ctx, void *l3, const __u8 family)
{
	struct ipv6hdr *ip6 = l3;
	struct iphdr *ip = l3;
	__u32 sum;

	if (family == FAMILY_IPV6) {
		if ((void *)(ip6 + 1) > end_of(ctx))
			return false;
		ip6->hop_limit--;
		return true;
	}
	if ((void *)(ip + 1) > end_of(ctx))
		return false;
	sum = ip->check + bpf_htons(0x0100);
	ip->check = sum + (sum >= 0xffff); /* as ip_decrease_ttl(): never 0xffff */
	ip->ttl--;
	return true;
}

static __always_inline void express_outer4(void *l3, const struct express *e,
					   const struct server *server, const __u8 family)
{
	__u32 first = bpf_htons(0x4500), length = bpf_htons(e->length + sizeof(struct iphdr));
	__u32 id = e->dont_fragment ? 0 : e->id;
	__u32 ttl = bpf_htons(OUTER_TTL << 8 |
			      (family == FAMILY_IPV4 ? IPPROTO_IPIP : IPPROTO_IPV6));
	struct iphdr *ip = l3;

	first = family == FAMILY_IPV4 ? e->first : first | bpf_htons(e->first);
	((__u16 *)ip)[0] = first;
	ip->tot_len = length;
	ip->id = id;
	ip->frag_off = e->dont_fragment;
	((__u16 *)ip)[4] = ttl;
	ip->check = ~csum_fold((__u64)server->outer_sum + first + length + id + e->dont_fragment +
			       ttl);
	ip->saddr = server->source[0];
	ip->daddr = server->addr[0];
}

static __always_inline void express_outer6(void *l3, const struct express *e,
					   const struct server *server, const __u8 family)
{
	__u8 tos = family == FAMILY_IPV4 ? bpf_ntohs(e->first) : e->first;
	struct ipv6hdr *ip = l3;

	*(__be32 *)ip = bpf_htonl(6u << 28 | (__u32)tos << 20);
	ip->payload_len = bpf_htons(e->length);
	ip->nexthdr = family == FAMILY_IPV4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	ip->hop_limit = OUTER_TTL;
	copy_address(ip->saddr.in6_u.u6_addr32, server->source, FAMILY_IPV6);
	copy_address(ip->daddr.in6_u.u6_addr32, server->addr, FAMILY_IPV6);
}

static __always_inline void count_express(struct counters *counters, const struct express *e)
{
	if (!counters)
		return;
	counters->packets_in++;
	counters->bytes_in += e->length;
}

/* LONG_WAY where there is no room for an outer header: nothing has been changed then. */
static __always_inline int express_send(struct xdp_md *ctx, const struct express *e,
					const struct server *server, const __u8 family)
{
	const bool outer4 = server->family == FAMILY_IPV4;
	struct ethhdr *eth;
	void *l3;

	if (server->forwarding == FORWARD_DSR) {
		eth = start_of(ctx);
		l3 = eth + 1;
		if (!express_age(ctx, l3, family))
			return XDP_DROP;
		eth->h_proto = family == FAMILY_IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	} else if (outer4) {
		if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
			return LONG_WAY;
		eth = start_of(ctx);
		l3 = eth + 1;
		if (!express_age(ctx, l3 + sizeof(struct iphdr), family))
			return XDP_DROP;
		eth->h_proto = bpf_htons(ETH_P_IP);
		express_outer4(l3, e, server, family);
	} else {
		if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct ipv6hdr)))
			return LONG_WAY;
		eth = start_of(ctx);
		l3 = eth + 1;
		if (!express_age(ctx, l3 + sizeof(struct ipv6hdr), family))
			return XDP_DROP;
		eth->h_proto = bpf_htons(ETH_P_IPV6);
		express_outer6(l3, e, server, family);
	}
	copy_mac(eth->h_dest, server->hop.dst);
	copy_mac(eth->h_source, server->hop.src);
	return out_through(ctx, server->hop.ifindex);
}

static __always_inline int express_ip(struct xdp_md *ctx, const __u8 family)
{
	void *start = start_of(ctx), *end = end_of(ctx), *l3 = start + sizeof(struct ethhdr);
	const int header = family == FAMILY_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct express e = {};
	struct server *server;
	enum reason stop;
	struct found found = {};
	struct conn *conn;
	__u32 now, id, tcp_header;
	__be16 *ports;
	__u8 flags = TCP_ACK;
	int action;

	/* a UDP packet that is shorter than a TCP header may take the long way */
	if (l3 + header + sizeof(struct tcphdr) > end)
		return LONG_WAY;
	stop = family == FAMILY_IPV4 ? express_parse4(l3, &e) : express_parse6(l3, &e);
	if (stop == REASON_NOT_OURS) {
		count_reason(REASON_NOT_OURS);
		return XDP_PASS;
	}
	if (stop != GO_ON || e.ttl <= 1 || e.length < header + sizeof(struct tcphdr) ||
	    e.length > (__u64)(end - l3))
		return LONG_WAY;
	ports = l3 + header;
	e.flow.sport = ports[0];
	e.flow.dport = ports[1];
	if (e.flow.protocol == IPPROTO_TCP) {
		flags = ((__u8 *)ports)[13];
		tcp_header = (((__u8 *)ports)[12] >> 4) * 4;
		if (tcp_header < sizeof(struct tcphdr) || e.length < header + tcp_header)
			return LONG_WAY;
	} else if (e.flow.protocol != IPPROTO_UDP) {
		return LONG_WAY;
	}

	conn = find_in(&e.flow, &found, family);
	if (!conn || !is_midstream(found.word, e.flow.protocol, flags))
		return LONG_WAY;
	now = now_tick();
	if (conn->seen != now) {
		if (is_expired(conn, found.word, now))
			return LONG_WAY;
		WRITE_ONCE(conn->seen, now);
	}
	server = server_of_ref(found.word.server);
	if (!server || !is_express(server, e.length))
		return LONG_WAY;

	action = express_send(ctx, &e, server, family);
	if (action == LONG_WAY)
		return LONG_WAY;
	id = SERVER_ID(found.word.server);
	count_express(bpf_map_lookup_elem(&server_counters, &id), &e);
	count_express(bpf_map_lookup_elem(&service_counters, &server->service), &e);
	count_reason(action == XDP_DROP ? REASON_NO_ROUTE : REASON_FORWARDED);
	return action;
}

/* An action, or LONG_WAY. */
__noinline int express(struct xdp_md *ctx)
{
	struct ethhdr *eth = start_of(ctx);

	if ((void *)(eth + 1) > end_of(ctx) || eth->h_dest[0] & 1)
		return LONG_WAY;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return express_ip(ctx, FAMILY_IPV4);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return express_ip(ctx, FAMILY_IPV6);
	return LONG_WAY;
}

#endif

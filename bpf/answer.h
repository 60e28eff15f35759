/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * answer.h - packets that the datapath answers itself: echo, ICMP errors, TCP resets.
 *
 * An answer goes back where its cause came from: Ethernet and IP addresses change places, VLAN
 * tags stay.  It comes from the VIP, is never larger than allowed for its cause, and is limited
 * per CPU and second, so that nobody can make us a source of noise.
 */
#ifndef KERNLB_ANSWER_H
#define KERNLB_ANSWER_H

#define ANSWER_TTL 64
#define ICMP_HEADER 8
#define QUOTED_TRANSPORT 8
#define QUOTED_MAX 192
#define TICKS_PER_SECOND 15

/* Errors and resets sent by this CPU within a second. */
struct budget {
	__u32 second; /* in ticks / TICKS_PER_SECOND */
	__u32 spent;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct budget);
} budgets SEC(".maps");

static __always_inline bool may_answer(const struct packet *p)
{
	__u32 zero = 0, second = p->now / TICKS_PER_SECOND;
	struct budget *budget = bpf_map_lookup_elem(&budgets, &zero);

	if (p->dry || !settings.icmp_per_second)
		return true;
	if (!budget)
		return false;
	if (budget->second != second) {
		budget->second = second;
		budget->spent = 0;
	}
	return ++budget->spent <= settings.icmp_per_second;
}

static __always_inline bool swap_ethernet(struct xdp_md *ctx)
{
	struct ethhdr *eth = start_of(ctx);
	__u8 mac[ETH_ALEN];

	if ((void *)(eth + 1) > end_of(ctx))
		return false;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	return true;
}

/* An IP header without options, from the destination of the cause to its source. */
static __always_inline bool write_answer_ip(struct xdp_md *ctx, struct packet *p, __u8 protocol, __u32 payload,
					    const __u8 family)
{
	struct iphdr *ip = at(ctx, p->l3);
	struct ipv6hdr *ip6 = (void *)ip;
	__u64 sum = 0;
	int i;

	if (family == FAMILY_IPV6) {
		if ((void *)(ip6 + 1) > end_of(ctx))
			return false;
		*(__be32 *)ip6 = bpf_htonl(6u << 28);
		ip6->payload_len = bpf_htons(payload);
		ip6->nexthdr = protocol;
		ip6->hop_limit = ANSWER_TTL;
		__builtin_memcpy(&ip6->saddr, destination_of(&p->flow, family), 16);
		__builtin_memcpy(&ip6->daddr, source_of(&p->flow, family), 16);
		return true;
	}
	if ((void *)(ip + 1) > end_of(ctx))
		return false;
	*(__be16 *)ip = bpf_htons(0x4500);
	ip->tot_len = bpf_htons(sizeof(*ip) + payload);
	ip->id = 0;
	ip->frag_off = IPV4_DONT_FRAGMENT;
	ip->ttl = ANSWER_TTL;
	ip->protocol = protocol;
	ip->check = 0;
	ip->saddr = p->flow.addr[1];
	ip->daddr = p->flow.addr[0];
#pragma unroll
	for (i = 0; i < (int)sizeof(*ip) / 2; i++)
		sum += ((__u16 *)ip)[i];
	ip->check = ~csum_fold(sum);
	return true;
}

/* The sum of what TCP and ICMPv6 cover beside themselves; the same in both directions. */
static __always_inline __u64 pseudo_sum(const struct packet *p, __u8 protocol, __u32 length,
					const __u8 family)
{
	__u64 sum = (__u64)p->flow.addr[0] + p->flow.addr[1];

	if (family == FAMILY_IPV6) {
		sum += (__u64)p->flow.addr[2] + p->flow.addr[3];
		sum += (__u64)p->flow.addr[4] + p->flow.addr[5];
		sum += (__u64)p->flow.addr[6] + p->flow.addr[7];
	}
	return sum + bpf_htons(protocol) + bpf_htons(length);
}

static __always_inline __u32 ip_header(const __u8 family)
{
	return family == FAMILY_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
}

/* The frame becomes exactly as long as what is in it. */
static __always_inline bool cut(struct xdp_md *ctx, __u32 length)
{
	int more = length - bpf_xdp_get_buff_len(ctx);

	return !more || !bpf_xdp_adjust_tail(ctx, more);
}

/* An ICMP error that quotes the packet up to the first 8 bytes of its transport header. */
static __always_inline bool answer_error_by(struct xdp_md *ctx, struct packet *p,
					    __u32 type_and_code, const __u8 family)
{
	__u32 quoted = p->l4 - p->l3 + QUOTED_TRANSPORT, i;
	__u32 more = ip_header(family) + ICMP_HEADER;
	__u8 protocol = family == FAMILY_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	__u64 sum = 0;
	__be16 *ethernet, *icmp, *words;

	if (quoted > QUOTED_MAX || quoted > p->length)
		return false;
	if (!swap_ethernet(ctx) || !cut(ctx, p->l3 + quoted) || bpf_xdp_adjust_head(ctx, -(int)more))
		return false;

	/* the Ethernet header with its tags moves to the front: 14, 18 or 22 bytes */
	ethernet = start_of(ctx);
	words = at(ctx, more);
	if ((void *)(ethernet + 11) > end_of(ctx) || (void *)(words + 11) > end_of(ctx))
		return false;
#pragma unroll
	for (i = 0; i < 11; i++)
		if (i < p->l3 / 2)
			ethernet[i] = words[i];
	if (!write_answer_ip(ctx, p, protocol, ICMP_HEADER + quoted, family))
		return false;

	icmp = at(ctx, p->l3 + ip_header(family));
	if ((void *)(icmp + 4) > end_of(ctx))
		return false;
	icmp[0] = bpf_htons(type_and_code);
	icmp[1] = 0;
	icmp[2] = family == FAMILY_IPV4 ? 0 : bpf_htons(p->mtu >> 16);
	icmp[3] = bpf_htons(p->mtu);
	if (family == FAMILY_IPV6)
		sum = pseudo_sum(p, protocol, ICMP_HEADER + quoted, family);
	for (i = 0; i < (ICMP_HEADER + QUOTED_MAX) / 2; i++) {
		words = at(ctx, p->l3 + ip_header(family) + 2 * i);
		if (i >= (ICMP_HEADER + quoted) / 2 || (void *)(words + 1) > end_of(ctx))
			break;
		sum += *words;
	}
	icmp = at(ctx, p->l3 + ip_header(family));
	if ((void *)(icmp + 4) > end_of(ctx))
		return false;
	icmp[1] = ~csum_fold(sum);
	p->action = XDP_TX;
	return true;
}

__noinline int answer_error(struct xdp_md *ctx, struct packet *p, __u32 type_and_code)
{
	return p && (p->flow.family == FAMILY_IPV4 ?
			     answer_error_by(ctx, p, type_and_code, FAMILY_IPV4) :
			     answer_error_by(ctx, p, type_and_code, FAMILY_IPV6));
}

/* RFC 9293, 3.10.7.1: what a host says of a connection that it does not have. */
static __always_inline bool answer_reset_by(struct xdp_md *ctx, struct packet *p,
					    const __u8 family)
{
	struct tcphdr *tcp = at(ctx, p->l4), reset = {};
	__u32 data;

	if ((void *)(tcp + 1) > end_of(ctx) || p->tcp_flags & TCP_RST)
		return false;
	reset.source = tcp->dest;
	reset.dest = tcp->source;
	reset.doff = sizeof(reset) / 4;
	reset.rst = 1;
	if (tcp->ack) {
		reset.seq = tcp->ack_seq;
	} else {
		data = p->l3 + p->length - p->l4 - tcp->doff * 4;
		reset.ack = 1;
		reset.ack_seq = bpf_htonl(bpf_ntohl(tcp->seq) + tcp->syn + tcp->fin + data);
	}
	reset.check = ~csum_fold(pseudo_sum(p, IPPROTO_TCP, sizeof(reset), family) +
				 reset.source + reset.dest + reset.seq + reset.ack_seq +
				 ((__u16 *)&reset)[6]);
	if (!swap_ethernet(ctx) || !cut(ctx, p->l3 + ip_header(family) + sizeof(reset)) ||
	    !write_answer_ip(ctx, p, IPPROTO_TCP, sizeof(reset), family))
		return false;
	tcp = at(ctx, p->l3 + ip_header(family));
	if ((void *)(tcp + 1) > end_of(ctx))
		return false;
	*tcp = reset;
	p->action = XDP_TX;
	return true;
}

__noinline int answer_reset(struct xdp_md *ctx, struct packet *p)
{
	return p && (p->flow.family == FAMILY_IPV4 ? answer_reset_by(ctx, p, FAMILY_IPV4) :
						     answer_reset_by(ctx, p, FAMILY_IPV6));
}

/* To a server an error comes from us, not from the client that it answered. */
static __always_inline void speak_for_ourselves(struct packet *p)
{
	struct server *server = server_at(p->why.server);

	if (!server || server->family != p->flow.family || !server->source[0])
		return;
	if (p->flow.family == FAMILY_IPV4)
		copy_address(p->flow.addr + 1, server->source, FAMILY_IPV4);
	else
		copy_address(p->flow.addr + 4, server->source, FAMILY_IPV6);
}

/* Type and code of an ICMP error, by family. */
static __always_inline __u32 error_of(const struct packet *p, __u32 v4, __u32 v6)
{
	return p->flow.family == FAMILY_IPV4 ? v4 : v6;
}

#define ERROR(type, code) ((type) << 8 | (code))

/* Verdicts that a sender should hear of. */
static __always_inline bool is_told(enum reason reason)
{
	return reason == REASON_TOO_BIG || reason == REASON_TTL_EXPIRED ||
	       reason == REASON_NO_SERVER || reason == REASON_NO_CONNECTION;
}

/* What was said is counted as said; else the reason stands. */
__noinline int answer(struct xdp_md *ctx, struct packet *p, __u32 reason)
{
	__u32 error;

	if (!p || !is_told(reason))
		return reason;
	if (p->fragment == FRAGMENT_LATER || is_icmp(p) || !may_answer(p))
		return reason;
	if (p->answers)
		speak_for_ourselves(p);
	switch (reason) {
	case REASON_TOO_BIG:
		error = error_of(p, ERROR(ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED),
				 ERROR(ICMPV6_PKT_TOOBIG, 0));
		if (p->dont_fragment && answer_error(ctx, p, error))
			return REASON_TOO_BIG_ANSWERED;
		return reason;
	case REASON_TTL_EXPIRED:
		p->mtu = 0;
		error = error_of(p, ERROR(ICMP_TIME_EXCEEDED, ICMP_EXC_TTL),
				 ERROR(ICMPV6_TIME_EXCEED, ICMPV6_EXC_HOPLIMIT));
		return answer_error(ctx, p, error) ? REASON_TTL_ANSWERED : reason;
	default: /* nobody serves this: say so at once rather than let the client wait */
		p->mtu = 0;
		error = error_of(p, ERROR(ICMP_DEST_UNREACH, ICMP_PORT_UNREACH),
				 ERROR(ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH));
		if (p->flow.protocol == IPPROTO_TCP ? answer_reset(ctx, p) :
						      answer_error(ctx, p, error))
			return REASON_REFUSED;
		return reason;
	}
}

#endif

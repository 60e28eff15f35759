/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * parse.h - what a frame is: offsets, addresses and ports, read once, in the order of the wire.
 *
 * Each step checks, reads and says what comes next.  A frame of an address that the filter does
 * not know is let go before anything behind the addresses is looked at.
 */
#ifndef KERNLB_PARSE_H
#define KERNLB_PARSE_H

#define GO_ON REASONS	  /* no verdict yet */
#define REASON_MAY_BE_MALFORMED (REASONS + 1) /* if it is for an address of ours */
#define REASON_IS_ICMP (REASONS + 2)
#define OFFSET_MASK 0x3ff /* headers lie within 1 KiB, or the packet is not understood */
#define EXTENSIONS 6	  /* steps over IPv6 extension headers, the last of which finds none */
#define SCTP_HEADER 12
#define SCTP_DATA 0
#define SCTP_INIT 1
#define SCTP_ABORT 6
#define SCTP_SHUTDOWN 7
#define SCTP_SHUTDOWN_ACK 8
#define SCTP_COOKIE_ECHO 10
#define SCTP_SHUTDOWN_COMPLETE 14
#define IPV6_OPTIONS_LENGTH(n) (((n) + 1) * 8)

#define IPV4_MORE_FRAGMENTS bpf_htons(0x2000)
#define IPV4_DONT_FRAGMENT bpf_htons(0x4000)
#define IPV4_FRAGMENT_OFFSET bpf_htons(0x1fff)
#define IPV6_FRAGMENT_OFFSET bpf_htons(0xfff8)
#define IPV6_MORE_FRAGMENTS bpf_htons(0x0001)

/* RFC 792; linux/icmp.h cannot be had without a C library's headers */
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMP_EXC_TTL 0

struct icmp_header {
	__u8 type, code;
	__u16 checksum;
	__be16 rest[2];
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

enum fragment_kind {
	FRAGMENT_NOT,
	FRAGMENT_FIRST, /* has ports */
	FRAGMENT_LATER, /* has none */
};

/* Source and destination as the packet has them; IPv4 uses addr[0] and addr[1], IPv6 all. */
struct flow {
	__be32 addr[8];
	__be16 sport, dport;
	__u8 protocol;
	__u8 family;
	__u16 pad;
};

/* What was decided, and by what. */
struct why {
	__u32 service, server, conn;
	__u32 ifindex;
	__u8 chosen_by, state;
	bool by_fib;
};

struct packet {
	struct flow flow;
	__u32 now;    /* tick */
	__u16 l3, l4; /* offsets of the IP header, and of what it carries */
	__u32 length; /* of the IP packet, its header included */
	__be32 fragment_id;
	__be16 source_port; /* fullnat: ours, towards the server */
	__u8 marks;    /* enum filter_mark */
	__u8 fragment; /* enum fragment_kind */
	__u8 tos;
	__u8 ttl;
	__u8 tcp_flags;
	__u8 sctp_chunk; /* type of the first one */
	bool dont_fragment;
	bool answers; /* from a server of nat or fullnat */
	bool dry;    /* explain: leave no trace */
	union {
		__u32 mtu;     /* of the way that it is too big for */
		__u32 retired; /* 1 + server of the connection that this packet ends to begin another */
	};
	int action;  /* set by whoever sends the packet somewhere */
	struct why why;
};

/* A source that something may be sent to: not multicast, not reserved, not a loopback. */
static __always_inline bool is_host(const __be32 *addr, __u8 family)
{
	__u32 first = bpf_ntohl(addr[0]);

	if (family == FAMILY_IPV4)
		return first >> 24 != 0 && first >> 24 != 127 && first < 0xe0000000;
	return first >> 24 != 0xff && (addr[0] | addr[1] | addr[2] || bpf_ntohl(addr[3]) > 1);
}

static __always_inline bool is_icmp(const struct packet *p)
{
	return p->flow.protocol ==
	       (p->flow.family == FAMILY_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* The rest of the program does not care how many words an address has. */
static __always_inline int words_of(const __u8 family)
{
	return family == FAMILY_IPV4 ? 1 : 4;
}

static __always_inline __be32 *source_of(struct flow *flow, const __u8 family)
{
	return flow->addr;
}

static __always_inline __be32 *destination_of(struct flow *flow, const __u8 family)
{
	return flow->addr + words_of(family);
}

/* Read anew each time, and never through 32 bits: the verifier loses a pointer that was. */
static __always_inline void *start_of(struct xdp_md *ctx)
{
	void *start;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(start)
		     : "r"(ctx), "i"(offsetof(struct xdp_md, data)));
	return start;
}

static __always_inline void *end_of(struct xdp_md *ctx)
{
	void *end;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(end)
		     : "r"(ctx), "i"(offsetof(struct xdp_md, data_end)));
	return end;
}

/* A pointer that the verifier can follow; the caller compares it with the end. */
static __always_inline void *at(struct xdp_md *ctx, __u32 offset)
{
	return start_of(ctx) + (offset & OFFSET_MASK);
}

/* One word for an address: IPv6 folded by XOR, as IPVS folds it. */
static __always_inline __u32 folded(const __be32 *addr, const __u8 family)
{
	if (family == FAMILY_IPV4)
		return bpf_ntohl(addr[0]);
	return bpf_ntohl(addr[0] ^ addr[1] ^ addr[2] ^ addr[3]);
}

static __always_inline __u8 marks_of(const __be32 *addr, const __u8 family)
{
	return filter[(folded(addr, family) * 0x9e3779b1u) >> 16];
}

static __always_inline void copy_address(__be32 *to, const __be32 *from, const __u8 family)
{
	to[0] = from[0];
	if (family == FAMILY_IPV6) {
		to[1] = from[1];
		to[2] = from[2];
		to[3] = from[3];
	}
}

static __always_inline void copy_addresses(__be32 *to, const __be32 *from, const __u8 family)
{
	to[0] = from[0];
	to[1] = from[1];
	if (family == FAMILY_IPV6) {
		copy_address(to, from, FAMILY_IPV6);
		copy_address(to + 4, from + 4, FAMILY_IPV6);
	}
}

/* Returns the EtherType behind at most two VLAN tags; 0 for what is not for one host. */
static __always_inline __be16 parse_ethernet(struct xdp_md *ctx, struct packet *p)
{
	struct ethhdr *eth = start_of(ctx);
	void *end = end_of(ctx);
	__be16 type;
	int i;

	if ((void *)(eth + 1) > end || eth->h_dest[0] & 1)
		return 0;
	type = eth->h_proto;
	p->l3 = sizeof(*eth);
#pragma unroll
	for (i = 0; i < 2; i++) {
		struct vlan_tag {
			__be16 tci, type;
		} *tag = at(ctx, p->l3);

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return 0;
		type = tag->type;
		p->l3 += sizeof(*tag);
	}
	return type;
}

static __always_inline bool is_ours(struct packet *p, const __u8 family)
{
	p->marks = marks_of(destination_of(&p->flow, family), family) & (MARK_VIP | MARK_ANY_PORT);
	p->marks |= marks_of(source_of(&p->flow, family), family) & MARK_SERVER;
	return p->marks;
}

/* Protocols that the destination has services of, by an exact look-up; 0: it is none of ours. */
static __always_inline __u32 vip_protocols(const struct flow *flow)
{
	struct service_key key = { .family = flow->family };
	__u32 *protocols;

	if (flow->family == FAMILY_IPV4)
		copy_address(key.addr, flow->addr + 1, FAMILY_IPV4);
	else
		copy_address(key.addr, flow->addr + 4, FAMILY_IPV6);
	protocols = bpf_map_lookup_elem(&service_ids, &key);
	return protocols ? *protocols : 0;
}

__noinline int judge_malformed(const struct packet *p)
{
	return p && vip_protocols(&p->flow) ? REASON_MALFORMED : REASON_NOT_OURS;
}

/* Ours to drop only if it is for an address of ours. */
#define malformed(p) ((p)->marks & MARK_VIP ? REASON_MAY_BE_MALFORMED : REASON_NOT_OURS)

/* The frame must hold what the IP header promises; behind it there may be padding. */
static __always_inline bool holds(struct xdp_md *ctx, const struct packet *p)
{
	__u32 promised = p->l3 + p->length;

	return promised <= end_of(ctx) - start_of(ctx) ||
	       promised <= bpf_xdp_get_buff_len(ctx);
}

static __always_inline enum reason parse_ipv4(struct xdp_md *ctx, struct packet *p)
{
	struct iphdr *ip = at(ctx, p->l3);
	__u32 header;

	if ((void *)(ip + 1) > end_of(ctx))
		return REASON_NOT_OURS;
	p->flow.addr[0] = ip->saddr;
	p->flow.addr[1] = ip->daddr;
	p->flow.protocol = ip->protocol;
	if (!is_ours(p, FAMILY_IPV4) && ip->protocol != IPPROTO_ICMP)
		return REASON_NOT_OURS;

	header = ip->ihl * 4;
	p->length = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || p->length < header || !holds(ctx, p))
		return malformed(p);
	p->l4 = p->l3 + header;
	p->tos = ip->tos;
	p->ttl = ip->ttl;
	p->fragment_id = ip->id;
	p->dont_fragment = ip->frag_off & IPV4_DONT_FRAGMENT;
	if (ip->frag_off & IPV4_FRAGMENT_OFFSET)
		p->fragment = FRAGMENT_LATER;
	else if (ip->frag_off & IPV4_MORE_FRAGMENTS)
		p->fragment = FRAGMENT_FIRST;
	return GO_ON;
}

enum step {
	STEP_ON,   /* one extension header further */
	STEP_DONE, /* no more of them */
	STEP_FAILED,
};

static __always_inline enum step step_over_fragment(struct xdp_md *ctx, struct packet *p)
{
	struct fragment_header {
		__u8 next, reserved;
		__be16 offset;
		__be32 id;
	} *fragment = at(ctx, p->l4);

	if ((void *)(fragment + 1) > end_of(ctx))
		return STEP_FAILED;
	p->flow.protocol = fragment->next;
	p->fragment_id = fragment->id;
	if (fragment->offset & IPV6_FRAGMENT_OFFSET)
		p->fragment = FRAGMENT_LATER;
	else if (fragment->offset & IPV6_MORE_FRAGMENTS)
		p->fragment = FRAGMENT_FIRST;
	p->l4 += sizeof(*fragment);
	if (p->l4 > OFFSET_MASK)
		return STEP_FAILED;
	return p->fragment == FRAGMENT_LATER ? STEP_DONE : STEP_ON;
}

static __always_inline enum step step_over_extension(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6_opt_hdr *option = at(ctx, p->l4);

	switch (p->flow.protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		break;
	case IPPROTO_FRAGMENT:
		return step_over_fragment(ctx, p);
	default:
		return STEP_DONE;
	}
	if ((void *)(option + 1) > end_of(ctx))
		return STEP_FAILED;
	p->flow.protocol = option->nexthdr;
	p->l4 += IPV6_OPTIONS_LENGTH(option->hdrlen);
	return p->l4 > OFFSET_MASK ? STEP_FAILED : STEP_ON;
}

/* Walks to the transport header. */
static __always_inline bool parse_ipv6_extensions(struct xdp_md *ctx, struct packet *p)
{
	enum step step = STEP_ON;
	int i;

#pragma unroll
	for (i = 0; i < EXTENSIONS; i++)
		if (step == STEP_ON)
			step = step_over_extension(ctx, p);
	return step == STEP_DONE;
}

static __always_inline enum reason parse_ipv6(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6hdr *ip = at(ctx, p->l3);

	if ((void *)(ip + 1) > end_of(ctx))
		return REASON_NOT_OURS;
	__builtin_memcpy(p->flow.addr, &ip->saddr, sizeof(p->flow.addr));
	p->flow.protocol = ip->nexthdr;
	if (!is_ours(p, FAMILY_IPV6) && ip->nexthdr != IPPROTO_ICMPV6)
		return REASON_NOT_OURS;

	p->length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || !holds(ctx, p))
		return malformed(p);
	p->l4 = p->l3 + sizeof(*ip);
	p->tos = bpf_ntohl(*(__be32 *)ip) >> 20;
	p->ttl = ip->hop_limit;
	p->dont_fragment = true;
	if (!parse_ipv6_extensions(ctx, p))
		return malformed(p);
	return GO_ON;
}

/* Ports, and the flags of TCP.  Not for later fragments, which have neither. */
static __always_inline enum reason parse_transport(struct xdp_md *ctx, struct packet *p)
{
	struct tcphdr *tcp = at(ctx, p->l4);
	__u32 needed = p->flow.protocol == IPPROTO_TCP ? sizeof(*tcp) :
		       p->flow.protocol == IPPROTO_UDP ? sizeof(struct udphdr) :
							 SCTP_HEADER;

	if (p->flow.protocol != IPPROTO_TCP && p->flow.protocol != IPPROTO_UDP &&
	    p->flow.protocol != IPPROTO_SCTP)
		return REASON_NOT_OURS;
	if (p->l4 + needed > p->l3 + p->length)
		return malformed(p);
	if (p->flow.protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end_of(ctx) || tcp->doff < 5 ||
		    p->l4 + tcp->doff * 4 > p->l3 + p->length)
			return malformed(p);
		p->tcp_flags = ((__u8 *)tcp)[13];
	} else if ((void *)tcp + sizeof(struct udphdr) > end_of(ctx)) {
		return malformed(p);
	}
	if (p->flow.protocol == IPPROTO_SCTP && (void *)tcp + SCTP_HEADER + 1 <= end_of(ctx))
		p->sctp_chunk = ((__u8 *)tcp)[SCTP_HEADER];
	p->flow.sport = tcp->source;
	p->flow.dport = tcp->dest;
	return GO_ON;
}

/* The whole of it.  GO_ON: it may be ours, and its flow is known (of later fragments, in part). */
static __always_inline enum reason parse_ip(struct xdp_md *ctx, struct packet *p,
					    const __u8 family)
{
	enum reason stop;

	p->flow.family = family;
	stop = family == FAMILY_IPV4 ? parse_ipv4(ctx, p) : parse_ipv6(ctx, p);
	if (stop != GO_ON || p->fragment == FRAGMENT_LATER || is_icmp(p))
		return stop;
	return parse_transport(ctx, p);
}

#endif

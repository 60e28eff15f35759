// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * decap.bpf.c - the real server's side of a tunnel, where its kernel has no device for it.
 *
 * Takes the outer header off and passes what was inside to the kernel's own stack, which has the
 * service's address on lo: IPIP of any family in any family, GUE (version 0 without options,
 * version 1) and GRE (without options).  A frame is touched only if
 *
 *   - its outer destination is one of `ends`, and its outer source one of `sources`;
 *   - outer and inner headers are whole and true to the frame, and the outer is no fragment;
 *   - the kernel would not forward what is inside: with this program attached, a host relays
 *     nothing that it did not relay before.
 *
 * All other frames pass as they came.  Congestion marks made on the way are kept (RFC 6040).
 * kernlb/datapath/xdp/decap.py attaches it and fills its maps.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "csum.h"

#define AF_INET 2
#define AF_INET6 10
#define OFFSET_MASK 0x7f /* the longest headers: 14 + 60 + 8 + 4 */
#define MAX_HEADER 60	 /* of IPv4 */
#define IPV4_FRAGMENT bpf_htons(0x3fff) /* "more fragments", and the offset */
#define ECN_MASK 3
#define ECN_CE 3
#define GUE_DIRECT 1 /* version: IP follows the UDP header at once */

/* What became of a packet to one of `ends`; those of other addresses are not counted. */
enum outcome {
	STRIPPED,
	FOREIGN,     /* the outer source is not among `sources` */
	FRAGMENT,    /* passed, IPIP and GRE and any UDP alike: later fragments name no port */
	UNSUPPORTED, /* options of GUE or GRE, or something else than IP inside */
	MALFORMED,   /* outer or inner lengths, versions or checksum are wrong */
	ELSEWHERE,   /* the kernel would forward what is inside */
	CONGESTED,   /* dropped: marked on the way, and the sender does not know of marks */
	OUTCOMES,
	NOT_OURS = OUTCOMES, /* no tunnel that ends here */
};

/* IPv4 as ::ffff:a.b.c.d */
struct address {
	__be32 word[4];
};

struct addresses {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, __u32);
};

struct addresses ends SEC(".maps");    /* of this host; value: port of GUE there, 0: no GUE */
struct addresses sources SEC(".maps"); /* who may send; value: unused; key "::": everybody */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} outcomes SEC(".maps");

/* The outer headers, as they are read. */
struct outer {
	struct address source, destination;
	__u32 at;  /* offset behind what was read */
	__u32 end; /* offset of its end, as it says itself */
	__be16 type; /* EtherType of the packet inside */
	__u16 gue_port;
	__u8 protocol;
	__u8 ecn;
};

/* A packet inside. */
struct inner {
	struct bpf_fib_lookup route; /* its addresses */
	__u32 length;
	__u8 ecn;
};

static __always_inline void *at(struct xdp_md *ctx, __u32 offset)
{
	return (void *)(long)ctx->data + (offset & OFFSET_MASK);
}

static __always_inline void *end_of(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;

	asm volatile("" : "+r"(end)); /* or clang cuts a pointer to the 32 bits of the field */
	return end;
}

static __always_inline void map_ipv4(struct address *to, __be32 addr)
{
	to->word[2] = bpf_htonl(0xffff);
	to->word[3] = addr;
}

static __always_inline bool may_be_tunnel(__u8 protocol)
{
	return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6 || protocol == IPPROTO_GRE ||
	       protocol == IPPROTO_UDP;
}

static __always_inline bool ipv4_sum_holds(struct xdp_md *ctx, __u32 offset, __u32 length)
{
	__u32 word[MAX_HEADER / 4] = {};
	__u64 sum = 0;
	int i;

	if (length > sizeof(word) || bpf_xdp_load_bytes(ctx, offset, word, length))
		return false;
	for (i = 0; i < MAX_HEADER / 4; i++)
		sum += word[i];
	return csum_fold(sum) == 0xffff;
}

static __always_inline bool ends_here(struct outer *outer)
{
	__u32 *port;

	if (!may_be_tunnel(outer->protocol))
		return false;
	port = bpf_map_lookup_elem(&ends, &outer->destination);
	if (!port || (outer->protocol == IPPROTO_UDP && !*port))
		return false;
	outer->gue_port = *port;
	return true;
}

static __always_inline bool may_send(const struct outer *outer)
{
	struct address anybody = {};

	return bpf_map_lookup_elem(&sources, &outer->source) ||
	       bpf_map_lookup_elem(&sources, &anybody);
}

static __always_inline enum outcome read_ipv4(struct xdp_md *ctx, struct outer *outer)
{
	struct iphdr *ip = at(ctx, outer->at);
	__u32 header;

	if ((void *)(ip + 1) > end_of(ctx))
		return NOT_OURS;
	map_ipv4(&outer->source, ip->saddr);
	map_ipv4(&outer->destination, ip->daddr);
	outer->protocol = ip->protocol;
	if (!ends_here(outer))
		return NOT_OURS;
	header = ip->ihl * 4;
	outer->ecn = ip->tos & ECN_MASK;
	outer->end = outer->at + bpf_ntohs(ip->tot_len);
	outer->at += header;
	if (ip->version != 4 || header < sizeof(*ip) || outer->at > outer->end ||
	    !ipv4_sum_holds(ctx, sizeof(struct ethhdr), header))
		return MALFORMED;
	return ip->frag_off & IPV4_FRAGMENT ? FRAGMENT : STRIPPED;
}

static __always_inline enum outcome read_ipv6(struct xdp_md *ctx, struct outer *outer)
{
	struct ipv6hdr *ip = at(ctx, outer->at);

	if ((void *)(ip + 1) > end_of(ctx))
		return NOT_OURS;
	__builtin_memcpy(&outer->source, &ip->saddr, sizeof(outer->source));
	__builtin_memcpy(&outer->destination, &ip->daddr, sizeof(outer->destination));
	outer->protocol = ip->nexthdr;
	if (!ends_here(outer))
		return NOT_OURS;
	outer->ecn = (ip->flow_lbl[0] >> 4) & ECN_MASK;
	outer->at += sizeof(*ip);
	outer->end = outer->at + bpf_ntohs(ip->payload_len);
	return ip->version == 6 ? STRIPPED : MALFORMED;
}

static __always_inline enum outcome read_gre(struct xdp_md *ctx, struct outer *outer)
{
	struct {
		__be16 flags, type;
	} *gre = at(ctx, outer->at);

	if ((void *)(gre + 1) > end_of(ctx))
		return MALFORMED;
	outer->at += sizeof(*gre);
	outer->type = gre->type;
	return gre->flags ? UNSUPPORTED : STRIPPED;
}

/* Its UDP checksum is not looked at: what is inside has its own. */
static __always_inline enum outcome read_gue(struct xdp_md *ctx, struct outer *outer)
{
	struct {
		struct udphdr udp;
		__u8 first, protocol;
		__be16 flags;
	} *gue = at(ctx, outer->at);

	if ((void *)(gue + 1) > end_of(ctx))
		return NOT_OURS;
	if (gue->udp.dest != bpf_htons(outer->gue_port))
		return NOT_OURS;
	if (outer->at + bpf_ntohs(gue->udp.len) > outer->end)
		return MALFORMED;
	outer->end = outer->at + bpf_ntohs(gue->udp.len);
	if (gue->first >> 6 == GUE_DIRECT) {
		outer->at += sizeof(gue->udp);
		outer->type = gue->first >> 4 == 4 ? bpf_htons(ETH_P_IP) :
			      gue->first >> 4 == 6 ? bpf_htons(ETH_P_IPV6) : 0;
		return STRIPPED;
	}
	outer->at += sizeof(*gue);
	outer->type = gue->protocol == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) :
		      gue->protocol == IPPROTO_IPV6 ? bpf_htons(ETH_P_IPV6) : 0;
	return gue->first || gue->flags ? UNSUPPORTED : STRIPPED;
}

static __always_inline enum outcome read_outer(struct xdp_md *ctx, struct outer *outer)
{
	struct ethhdr *eth = at(ctx, 0);
	enum outcome outcome = NOT_OURS;

	if ((void *)(eth + 1) > end_of(ctx))
		return NOT_OURS;
	outer->at = sizeof(*eth);
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		outcome = read_ipv4(ctx, outer);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		outcome = read_ipv6(ctx, outer);
	if (outcome != STRIPPED)
		return outcome;

	switch (outer->protocol) {
	case IPPROTO_IPIP:
		outer->type = bpf_htons(ETH_P_IP);
		return STRIPPED;
	case IPPROTO_IPV6:
		outer->type = bpf_htons(ETH_P_IPV6);
		return STRIPPED;
	case IPPROTO_GRE:
		return read_gre(ctx, outer);
	default:
		return read_gue(ctx, outer);
	}
}

static __always_inline enum outcome read_inner(struct xdp_md *ctx, const struct outer *outer,
					       struct inner *inner)
{
	struct iphdr *ip = at(ctx, outer->at);
	struct ipv6hdr *ip6 = (void *)ip;

	inner->route.ifindex = ctx->ingress_ifindex;
	if (outer->type == bpf_htons(ETH_P_IP)) {
		if ((void *)(ip + 1) > end_of(ctx) || ip->version != 4 || ip->ihl < 5)
			return MALFORMED;
		inner->length = bpf_ntohs(ip->tot_len);
		inner->ecn = ip->tos & ECN_MASK;
		inner->route.family = AF_INET;
		inner->route.ipv4_src = ip->saddr;
		inner->route.ipv4_dst = ip->daddr;
		if (inner->length < ip->ihl * 4)
			return MALFORMED;
	} else if (outer->type == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(ip6 + 1) > end_of(ctx) || ip6->version != 6)
			return MALFORMED;
		inner->length = sizeof(*ip6) + bpf_ntohs(ip6->payload_len);
		inner->ecn = (ip6->flow_lbl[0] >> 4) & ECN_MASK;
		inner->route.family = AF_INET6;
		__builtin_memcpy(inner->route.ipv6_src, &ip6->saddr, sizeof(ip6->saddr));
		__builtin_memcpy(inner->route.ipv6_dst, &ip6->daddr, sizeof(ip6->daddr));
	} else {
		return UNSUPPORTED;
	}
	if (outer->at + inner->length > outer->end || outer->end > bpf_xdp_get_buff_len(ctx))
		return MALFORMED;
	return STRIPPED;
}

/* Not to another host: it is local, or this host forwards nothing at all. */
static __always_inline bool stays_here(struct xdp_md *ctx, struct inner *inner)
{
	long result = bpf_fib_lookup(ctx, &inner->route, sizeof(inner->route), 0);

	return result == BPF_FIB_LKUP_RET_NOT_FWDED || result == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

static __always_inline void mark_congested(struct xdp_md *ctx, const struct outer *outer)
{
	struct iphdr *ip = at(ctx, outer->at);
	__u16 *first = (void *)ip, was;

	if ((void *)(ip + 1) > end_of(ctx)) /* it was seen before; the verifier has forgotten */
		return;
	if (outer->type == bpf_htons(ETH_P_IPV6)) {
		*first |= bpf_htons(ECN_CE << 4);
		return;
	}
	was = *first;
	*first |= bpf_htons(ECN_CE);
	ip->check = csum_update(ip->check, csum_diff16(was, *first));
}

/* The Ethernet header moves up to the packet inside. */
static __always_inline enum outcome strip(struct xdp_md *ctx, const struct outer *outer)
{
	struct ethhdr *eth = at(ctx, 0), was;

	if ((void *)(eth + 1) > end_of(ctx))
		return MALFORMED;
	was = *eth;
	was.h_proto = outer->type;
	if (bpf_xdp_adjust_head(ctx, outer->at - sizeof(*eth)))
		return MALFORMED;
	eth = at(ctx, 0);
	if ((void *)(eth + 1) > end_of(ctx))
		return MALFORMED;
	*eth = was;
	return STRIPPED;
}

static __always_inline enum outcome unwrap(struct xdp_md *ctx)
{
	struct outer outer = {};
	struct inner inner = {};
	enum outcome outcome = read_outer(ctx, &outer);

	if (outcome != STRIPPED)
		return outcome;
	if (!may_send(&outer))
		return FOREIGN;
	outcome = read_inner(ctx, &outer, &inner);
	if (outcome != STRIPPED)
		return outcome;
	if (!stays_here(ctx, &inner))
		return ELSEWHERE;
	if (outer.ecn == ECN_CE && inner.ecn == 0)
		return CONGESTED;
	if (outer.ecn == ECN_CE)
		mark_congested(ctx, &outer);
	return strip(ctx, &outer);
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	enum outcome outcome = unwrap(ctx);
	__u32 key = outcome;
	__u64 *count = bpf_map_lookup_elem(&outcomes, &key);

	if (count)
		*count += 1;
	return outcome == CONGESTED ? XDP_DROP : XDP_PASS;
}

/* For the other end of a veth pair, which hands on what XDP sends only to a program. */
SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";

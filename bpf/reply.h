/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reply.h - what a server of nat or fullnat answers, on its way back to the client.
 *
 * It is found by its own five-tuple in the same table: the entry of the answers has no content but
 * the index of the connection, whose key holds the client and the VIP.
 */
#ifndef KERNLB_REPLY_H
#define KERNLB_REPLY_H

/* The answer as the client is to see it: from the VIP, to where the client is. */
static __always_inline enum reason reply_by(struct xdp_md *ctx, struct packet *p,
					    __u32 index, const __u8 family)
{
	__be16 type = family == FAMILY_IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	const struct conn *conn = conn_at(index, family);
	struct way_out out = {};
	struct rewrite to;
	enum reason stop;

	if (!conn)
		return REASON_NO_CONNECTION;
	to.source = conn->addr + words_of(family);
	to.destination = conn->addr;
	to.sport = conn->dport;
	to.dport = conn->sport;
	out.family = family;
	copy_address(out.from, to.source, family);
	copy_address(out.to, to.destination, family);
	stop = hop_by_fib(ctx, p, &out);
	if (stop == REASON_NO_NEIGHBOUR && hop_by_return(p, &out))
		stop = GO_ON;
	if (stop != GO_ON)
		return stop;
	if (out.mtu && p->length > out.mtu) {
		p->mtu = out.mtu;
		return REASON_TOO_BIG;
	}
	if (!age(ctx, p, family) || !translate(ctx, p, &to, family))
		return REASON_UNSUPPORTED;
	if (!make_room(ctx, p, &out, 0) || !write_ethernet(ctx, p, &out, type))
		return REASON_NO_HEADROOM;
	return send(ctx, p, &out, REASON_REPLY);
}

/* Of a new connection: can its answers go back the way that routes say? */
__noinline int prepare_reply(struct xdp_md *ctx, struct packet *p)
{
	struct way_out out = {};

	if (!p)
		return 0;
	out.family = p->flow.family;
	if (p->flow.family == FAMILY_IPV4) {
		out.from[0] = p->flow.addr[1];
		out.to[0] = p->flow.addr[0];
	} else {
		copy_address(out.from, p->flow.addr + 4, FAMILY_IPV6);
		copy_address(out.to, p->flow.addr, FAMILY_IPV6);
	}
	if (hop_by_fib(ctx, p, &out) == REASON_NO_NEIGHBOUR)
		learn_return(ctx, p);
	p->why.by_fib = 0;
	return 0;
}

/* `index` is the entry of the connection itself. */
__noinline int reply(struct xdp_md *ctx, struct packet *p, __u32 index)
{
	if (!p)
		return REASON_MALFORMED;
	if (p->ttl <= 1)
		return REASON_TTL_EXPIRED;
	return p->flow.family == FAMILY_IPV4 ? reply_by(ctx, p, index, FAMILY_IPV4) :
					       reply_by(ctx, p, index, FAMILY_IPV6);
}

#endif

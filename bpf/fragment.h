/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fragment.h - later fragments, which have no ports, go where the first one went.
 *
 * The first fragment of a datagram has its ports and is balanced as any packet; its identification
 * is remembered.  A later fragment that comes before it, or long after, cannot be placed and is
 * dropped: nothing is stored for reassembly.
 */
#ifndef KERNLB_FRAGMENT_H
#define KERNLB_FRAGMENT_H

#define FRAGMENT_LIFETIME 450 /* ticks: 30 s, as reassembly (RFC 8200, 4.5: 60 s; Linux: 30 s) */

static __always_inline void fragment_key_of(const struct packet *p, struct fragment_key *key)
{
	if (p->flow.family == FAMILY_IPV4)
		copy_addresses(key->addr, p->flow.addr, FAMILY_IPV4);
	else
		copy_addresses(key->addr, p->flow.addr, FAMILY_IPV6);
	key->id = p->fragment_id;
	key->protocol = p->flow.protocol;
	key->family = p->flow.family;
}

/* Of a first fragment that has its server, or is the stack's: `server` is NONE then. */
__noinline int remember_fragment(const struct packet *p)
{
	struct server *server;
	struct fragment_key key = {};
	struct fragment fragment = {};

	if (!p || p->dry)
		return 0;
	server = server_at(p->why.server);
	fragment.conn = p->why.conn;
	fragment.server = server ? SERVER_REF(p->why.server, server->generation) : NONE;
	fragment.seen = p->now;
	fragment.answers = p->answers;
	fragment_key_of(p, &key);
	bpf_map_update_elem(&fragments, &key, &fragment, BPF_ANY);
	return 0;
}

/* Whether a fragment is of a datagram that the stack will not see. */
static __always_inline bool is_balanced(const struct packet *p)
{
	__u32 protocols = p->marks & MARK_VIP ? vip_protocols(&p->flow) : 0;

	return (p->flow.protocol == IPPROTO_TCP && protocols & VIP_TCP) ||
	       (p->flow.protocol == IPPROTO_UDP && protocols & VIP_UDP) ||
	       (p->flow.protocol == IPPROTO_SCTP && protocols & VIP_SCTP);
}

__noinline int follow_fragment(struct xdp_md *ctx, struct packet *p)
{
	struct fragment_key key = {};
	struct fragment *fragment;
	struct server *server;
	struct conn *conn;
	__u32 index;

	if (!p)
		return REASON_MALFORMED;
	fragment_key_of(p, &key);
	fragment = bpf_map_lookup_elem(&fragments, &key);
	if (!fragment || p->now - fragment->seen > FRAGMENT_LIFETIME)
		return is_balanced(p) ? REASON_FRAGMENT_UNPLACED : REASON_NOT_OURS;
	if (fragment->server == NONE)
		return REASON_NO_SERVICE;
	server = server_of_ref(fragment->server);
	if (!server)
		return REASON_FRAGMENT_UNPLACED;
	p->why.server = SERVER_ID(fragment->server);
	p->why.service = server->service;
	p->why.chosen_by = CHOSEN_CONNECTION;
	if (!fragment->answers) {
		count_packet(p, false);
		return forward(ctx, p);
	}
	index = fragment->conn;
	conn = conn_at(index, p->flow.family);
	if (!conn || SERVER_ID(conn->word.server) != p->why.server)
		return REASON_FRAGMENT_UNPLACED;
	p->answers = true;
	count_packet(p, false);
	return reply(ctx, p, index);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ours.h - which packets belong to the services of this world, and which may be dropped.
 */
#ifndef FUZZ_OURS_H
#define FUZZ_OURS_H

#include "mutate.h"

enum { DSR, TUNNEL, NAT, FULLNAT };
enum { IPIP, GUE, GRE };

#define MOST_EXTENSIONS 5 /* that must be understood */

/* A server with its service; the test writes these. Numbers in host order. */
struct pair {
	u8 vip[16], server[16], ours[16];
	u16 port, server_port; /* of the service, 0: every; of the server, 0: the packet's */
	u16 vlan, tunnel_port;
	u8 family, server_family, protocol, forwarding, tunnel;
	u8 has_server; /* else a service without servers */
	u8 by_load;    /* scheduled by how many connections servers have */
	u8 pad;
};

struct world {
	const struct pair *pairs;
	u32 count;
	u8 server_mac[6], client_mac[6];
};

static bool same(const u8 *a, const u8 *b, u8 family)
{
	return !memcmp(a, b, address_size(family));
}

static bool is_vip(const struct world *w, const u8 *address, u8 family, u8 protocol)
{
	u32 i;

	for (i = 0; i < w->count; i++)
		if (w->pairs[i].family == family && same(w->pairs[i].vip, address, family) &&
		    (!protocol || w->pairs[i].protocol == protocol))
			return true;
	return false;
}

static bool is_service(const struct world *w, u8 family, u8 protocol, const u8 *address, u16 port)
{
	u32 i;

	for (i = 0; i < w->count; i++) {
		const struct pair *each = &w->pairs[i];

		if (each->family == family && each->protocol == protocol &&
		    (!each->port || each->port == port) && same(each->vip, address, family))
			return true;
	}
	return false;
}

/* Whether a server whose packets are translated speaks from there; port -1: from any. */
static bool is_server(const struct world *w, u8 family, u8 protocol, const u8 *address, int port)
{
	u32 i;

	for (i = 0; i < w->count; i++) {
		const struct pair *each = &w->pairs[i];
		u16 its = each->server_port ? each->server_port : each->port;

		if (each->has_server && each->forwarding >= NAT && each->family == family &&
		    (!protocol || each->protocol == protocol) &&
		    same(each->server, address, family) && (port < 0 || !its || its == port))
			return true;
	}
	return false;
}

/* Any server of that address. */
static const struct pair *server_of(const struct world *w, const u8 *address, u8 family)
{
	u32 i;

	for (i = 0; i < w->count; i++)
		if (w->pairs[i].has_server && w->pairs[i].server_family == family &&
		    same(w->pairs[i].server, address, family))
			return &w->pairs[i];
	return NULL;
}

static bool is_error(const struct view *v, u8 type)
{
	return v->family == 4 ? type == 3 || type == 4 || type == 11 || type == 12 :
				type >= 1 && type <= 4;
}

/* An error that quotes what we balance; `quoted` is the packet in it. */
static bool quotes_ours(const struct world *w, const struct frame *f, const struct view *v,
			struct view *quoted)
{
	if (!v->transport || v->fragment != WHOLE || !is_icmp(v) || v->l4 + 8 > f->length ||
	    !is_error(v, f->data[v->l4]))
		return false;
	*quoted = parse_quoted(f->data, f->length, v->l4 + 8, v->family);
	if (!quoted->ip || !quoted->ports || quoted->l4 + 8 > v->end)
		return false;
	if (is_vip(w, v->dst, v->family, 0) && same(quoted->src, v->dst, v->family))
		return is_service(w, v->family, quoted->protocol, quoted->src, quoted->sport);
	return is_server(w, v->family, quoted->protocol, quoted->dst, quoted->dport);
}

/* Ours to send on, or to answer. */
static bool is_ours(const struct world *w, const struct frame *f, const struct view *v)
{
	struct view quoted;

	if (!v->ip || !v->transport || f->data[0] & 1)
		return false;
	if (v->fragment == LATER_FRAGMENT)
		return is_vip(w, v->dst, v->family, v->protocol) ||
		       is_server(w, v->family, v->protocol, v->src, -1);
	if (is_icmp(v))
		return (v->l4 + 8 <= f->length && v->fragment == WHOLE &&
			f->data[v->l4] == (v->family == 4 ? 8 : 128) &&
			is_vip(w, v->dst, v->family, 0)) ||
		       quotes_ours(w, f, v, &quoted);
	return v->ports && (is_service(w, v->family, v->protocol, v->dst, v->dport) ||
			    is_server(w, v->family, v->protocol, v->src, v->sport));
}

/* A whole packet with a whole transport header, about which there is nothing to complain. */
static bool is_sound(const struct frame *f, const struct view *v)
{
	static const u8 least[256] = { [TCP] = 20, [UDP] = 8, [SCTP] = 12 };

	return v->ip && v->transport && v->ports && v->fragment == WHOLE && v->end <= f->length &&
	       v->extensions <= MOST_EXTENSIONS && v->l4 - v->l3 < 200 && v->l4 + least[v->protocol] <= v->end &&
	       (v->protocol != TCP || (f->data[v->l4 + 12] >> 4 >= 5 &&
				       v->l4 + (f->data[v->l4 + 12] >> 4) * 4 <= v->end));
}

/* Ours to drop: for an address of ours and broken, or ours and not to be helped. */
static bool may_be_dropped(const struct world *w, const struct frame *f, const struct view *v)
{
	u8 family = 0;
	u32 l3 = skip_ethernet(f->data, f->length, &family);
	u32 at = l3 + (family == 4 ? 16 : 24);

	if (!l3 || at + address_size(family) > f->length || f->data[0] & 1)
		return false;
	if (is_sound(f, v))
		return is_ours(w, f, v);
	return is_vip(w, f->data + at, family, 0) || is_ours(w, f, v);
}

#endif

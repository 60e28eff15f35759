/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * check.h - what must hold of any packet, whatever it was:
 *
 *   passed    exactly as it came
 *   dropped   only what is for an address of ours, from a server, or an error about our flows
 *   sent      only what belongs to a service; changed where the method says and nowhere else; no
 *             longer than headers make it; lengths true; checksums right if they were right before
 *   answered  to where it came from, with lengths and checksums that are right
 *
 * Each check returns what is wrong in words, or NULL.
 */
#ifndef FUZZ_CHECK_H
#define FUZZ_CHECK_H

#include "ours.h"

enum { XDP_ABORTED_, XDP_DROP_, XDP_PASS_, XDP_TX_, XDP_REDIRECT_ };
#define MOST_MORE 56 /* an outer IPv6 header, UDP, GUE, a VLAN tag */

/* Take addresses, ports and checksums out of the comparison of two IP packets at offsets. */
static void copy_flow(struct frame *to, const struct view *at, const u8 *from, const struct view *v)
{
	u32 check = checksum_at(v);

	memcpy(to->data + (at->src - to->data), v->src, address_size(v->family));
	memcpy(to->data + (at->dst - to->data), v->dst, address_size(v->family));
	if (v->family == 4)
		memcpy(to->data + at->l3 + 10, from + v->l3 + 10, 2);
	if (v->ports && v->protocol != SCTP)
		memcpy(to->data + at->l4, from + v->l4, 4);
	if (check && v->fragment != LATER_FRAGMENT && !is_icmp(v))
		memcpy(to->data + at->l4 + (check - v->l4), from + check, 2);
}

/* The IP packet as it is after its last hop here: changed where it may be, else as it came. */
static const char *check_content(const struct frame *in, const struct view *v, const struct frame *out,
				 const struct view *o, bool translated)
{
	static struct frame expected;
	struct view e, quoted, got;
	u32 length = in->length - v->l3;

	if (out->length - o->l3 != length)
		return "the packet's length has changed";
	if (o->family != v->family || o->l4 - o->l3 != v->l4 - v->l3)
		return "the packet's headers have another shape";
	expected = *in;
	e = parse(expected.data, expected.length);
	if (v->family == 4) {
		expected.data[v->l3 + 8]--;
		memcpy(expected.data + v->l3 + 10, out->data + o->l3 + 10, 2);
	} else {
		expected.data[v->l3 + 7]--;
	}
	if (translated)
		copy_flow(&expected, &e, out->data, o);
	if (translated && is_icmp(v)) {
		quoted = parse_quoted(expected.data, expected.length, v->l4 + 8, v->family);
		got = parse_quoted(out->data, out->length, o->l4 + 8, v->family);
		if (!quoted.ip || !got.ip)
			return "the quotation is no packet any more";
		memcpy(expected.data + v->l4 + 2, out->data + o->l4 + 2, 2);
		memcpy(expected.data + (quoted.src - expected.data), got.src, address_size(v->family));
		memcpy(expected.data + (quoted.dst - expected.data), got.dst, address_size(v->family));
		if (v->family == 4)
			memcpy(expected.data + quoted.l3 + 10, out->data + got.l3 + 10, 2);
		memcpy(expected.data + quoted.l4, out->data + got.l4, 4);
	}
	if (memcmp(expected.data + v->l3, out->data + o->l3, length))
		return "bytes have changed that are none of ours";
	if (header_holds(in->data, v) && !header_holds(out->data, o))
		return "the IP header's checksum was right and is not any more";
	if (transport_holds(in->data, in->length, v) &&
	    !transport_holds(out->data, out->length, o))
		return "the transport's checksum was right and is not any more";
	if (v->ports && v->protocol == UDP && v->fragment == WHOLE && v->l4 + 8 <= v->end &&
	    v->l4 + 8 <= in->length && !get16(in->data + v->l4 + 6) != !get16(out->data + o->l4 + 6))
		return "UDP has lost its checksum, or found one";
	return NULL;
}

/* The packet behind the outer header of a tunnel; `inner->ip` false where it is wrong. */
static const char *unwrap(const struct frame *out, const struct view *o, const struct pair *to,
			  u8 family, struct view *inner)
{
	static const u8 carried[] = { [4] = 4, [6] = 41 };
	const u8 *at = out->data + o->l4;
	u8 protocol = to->tunnel == GUE ? UDP : to->tunnel == GRE ? 47 : carried[family];
	u32 more = to->tunnel == GUE ? 12 : to->tunnel == GRE ? 4 : 0;

	if (!header_holds(out->data, o))
		return "the outer header's checksum is wrong";
	if (o->protocol != protocol || o->ttl != 64 || o->fragment != WHOLE)
		return "the outer header is of another kind";
	if (!same(o->src, to->ours, o->family))
		return "the outer header is not from us";
	if (to->tunnel == GUE && (get16(at + 2) != to->tunnel_port || get16(at) < 49152 ||
				  get16(at + 4) != o->end - o->l4 || get16(at + 6) || at[8] ||
				  at[9] != carried[family] || get16(at + 10)))
		return "the GUE header is wrong";
	if (to->tunnel == GRE && (get16(at) || get16(at + 2) != (family == 4 ? 0x0800 : 0x86dd)))
		return "the GRE header is wrong";
	*inner = parse_ip(out->data, out->length, o->l4 + more, family);
	if (!inner->ip || inner->end != o->end)
		return "the outer header has another length than what is in it";
	return NULL;
}

static const struct pair *server_at(const struct world *w, const u8 *address, u8 family, u8 inner)
{
	u32 i;

	for (i = 0; i < w->count; i++)
		if (w->pairs[i].has_server && w->pairs[i].server_family == family &&
		    w->pairs[i].family == inner && same(w->pairs[i].server, address, family))
			return &w->pairs[i];
	return NULL;
}

/* Sent on, to a server or to a client. */
static const char *check_forwarded(const struct world *w, const struct frame *in,
				   const struct view *v, const struct frame *out,
				   const struct view *o)
{
	const struct pair *to = server_at(w, o->dst, o->family, v->family);
	const char *wrong;
	struct view inner;

	if (v->ttl <= 1)
		return "a packet was sent on at its last hop";
	if (to && to->forwarding == TUNNEL) {
		wrong = unwrap(out, o, to, v->family, &inner);
		return wrong ? wrong : check_content(in, v, out, &inner, false);
	}
	if (same(o->dst, v->dst, v->family) && same(o->src, v->src, v->family) &&
	    is_vip(w, o->dst, o->family, 0))
		return check_content(in, v, out, o, false);
	if (!to && !is_vip(w, o->src, o->family, 0))
		return "a packet was sent to nobody who is known";
	return check_content(in, v, out, o, true);
}

/* Answered by the program itself. */
static const char *check_answered(const struct frame *in, const struct view *v,
				  const struct frame *out, const struct view *o)
{
	bool echo = is_icmp(o) && o->l4 < out->length &&
		    out->data[o->l4] == (o->family == 4 ? 0 : 129);

	if (memcmp(out->data + 6, in->data, 6))
		return "an answer is not from whom the packet was for";
	if (o->l3 != v->l3 || memcmp(out->data + 12, in->data + 12, v->l3 - 12))
		return "an answer has other tags";
	if (!same(o->dst, v->src, v->family))
		return "an answer is not for who asked";
	if (echo) {
		if (out->length != in->length)
			return "an echo has another length";
		if (header_holds(in->data, v) != header_holds(out->data, o) ||
		    transport_holds(in->data, in->length, v) !=
			    transport_holds(out->data, out->length, o))
			return "an echo has another checksum";
		return NULL;
	}
	if (o->end != out->length)
		return "an answer has another length than its frame";
	if (!header_holds(out->data, o) || !transport_holds(out->data, out->length, o))
		return "the checksum of an answer is wrong";
	if (is_icmp(v) || v->fragment == LATER_FRAGMENT)
		return "an error about an error, or about a later fragment";
	if (o->protocol == TCP)
		return out->data[o->l4 + 13] & 4 && !(in->data[v->l4 + 13] & 4) ?
			       NULL :
			       "an answer by TCP that is no reset, or a reset of a reset";
	if (!is_icmp(o) || !is_error(o, out->data[o->l4]))
		return "an answer that is no error";
	return memcmp(out->data + o->l4 + 8, in->data + v->l3, v->l4 + 8 - v->l3) ?
		       "an error quotes something else" :
		       NULL;
}

static const char *check(const struct world *w, const struct frame *in, u32 verdict,
			 const struct frame *out)
{
	struct view v = parse(in->data, in->length), o;

	switch (verdict) {
	case XDP_PASS_:
		if (in->length != out->length || memcmp(in->data, out->data, in->length))
			return "a packet was passed, but not as it came";
		return NULL;
	case XDP_DROP_:
		return may_be_dropped(w, in, &v) ? NULL : "a packet that is not ours was dropped";
	case XDP_TX_:
	case XDP_REDIRECT_:
		break;
	default:
		return "a verdict that nobody gives";
	}
	if (!is_ours(w, in, &v))
		return "a packet that is not ours was sent";
	if (v.end > in->length)
		return "a packet that is not whole was sent";
	if (out->length > in->length + MOST_MORE)
		return "a packet has grown too much";
	o = parse(out->data, out->length);
	if (!o.ip || !o.transport || o.end > out->length)
		return "what was sent is no packet";
	/* back to the machine, and to the address: else it is an answer on its way to a client behind
	   the same machine, remembered from its packets */
	if (!memcmp(out->data, in->data + 6, 6) && same(o.dst, v.src, v.family))
		return check_answered(in, &v, out, &o);
	if (memcmp(out->data, w->server_mac, 6) && memcmp(out->data, w->client_mac, 6) &&
	    memcmp(out->data, in->data + 6, 6))
		return "a packet was sent to a machine that is not known";
	return check_forwarded(w, in, &v, out, &o);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * packet.h - what a frame is, and whether its checksums hold: read by RFC, not by the program.
 */
#ifndef FUZZ_PACKET_H
#define FUZZ_PACKET_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

enum { ICMP4 = 1, TCP = 6, UDP = 17, ICMP6 = 58, SCTP = 132 };
enum { WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT };

/* Offsets count from the start of the frame. */
struct view {
	bool ip;	/* an IP packet, whose header is whole and makes sense */
	bool transport; /* the chain of headers was followed to its end */
	u8 family, protocol, fragment, ttl;
	u8 extensions; /* headers of IPv6 before the transport */
	u32 l3, l4, end; /* end: of the IP packet, which may be beyond the frame */
	const u8 *src, *dst;
	u16 sport, dport; /* of TCP, UDP, SCTP where they are there */
	bool ports;
};

static inline u16 get16(const u8 *p)
{
	return p[0] << 8 | p[1];
}

static inline void put16(u8 *p, u16 value)
{
	p[0] = value >> 8;
	p[1] = value;
}

static inline int address_size(u8 family)
{
	return family == 4 ? 4 : 16;
}

static inline bool is_icmp(const struct view *v)
{
	return v->protocol == (v->family == 4 ? ICMP4 : ICMP6);
}

/* Where the IP header is, behind at most two tags; 0 if it is no IP frame. */
static inline u32 skip_ethernet(const u8 *frame, u32 length, u8 *family)
{
	u32 at = 12, tags;

	for (tags = 0; at + 2 <= length; tags++, at += 4) {
		u16 type = get16(frame + at);

		if (type == 0x0800 || type == 0x86dd) {
			*family = type == 0x0800 ? 4 : 6;
			return at + 2;
		}
		if (tags == 2 || (type != 0x8100 && type != 0x88a8))
			return 0;
	}
	return 0;
}

static inline void find_ports(const u8 *frame, u32 length, struct view *v)
{
	if (v->fragment == LATER_FRAGMENT || v->l4 + 4 > length)
		return;
	if (v->protocol != TCP && v->protocol != UDP && v->protocol != SCTP)
		return;
	v->sport = get16(frame + v->l4);
	v->dport = get16(frame + v->l4 + 2);
	v->ports = true;
}

static inline void walk_extensions(const u8 *frame, u32 length, struct view *v)
{
	int i;

	for (i = 0; i < 16; i++) {
		const u8 *at = frame + v->l4;

		if (v->protocol != 0 && v->protocol != 43 && v->protocol != 44 && v->protocol != 60) {
			v->transport = true;
			return;
		}
		v->extensions++;
		if (v->l4 + 8 > length)
			return;
		if (v->protocol == 44) {
			u16 field = get16(at + 2);

			v->protocol = at[0];
			v->l4 += 8;
			if (field & 0xfff8) {
				v->fragment = LATER_FRAGMENT;
				v->transport = true;
				return;
			}
			if (field & 1)
				v->fragment = FIRST_FRAGMENT;
			continue;
		}
		v->protocol = at[0];
		v->l4 += (at[1] + 1) * 8;
	}
}

/* An IP packet at an offset of a buffer, or as much of it as an ICMP error quotes. */
static inline struct view parse_quoted(const u8 *frame, u32 length, u32 l3, u8 family)
{
	struct view v = { .family = family, .l3 = l3 };
	const u8 *ip = frame + l3;

	if (!l3 || l3 + (family == 4 ? 20 : 40) > length || ip[0] >> 4 != family)
		return v;
	if (family == 4) {
		u16 field = get16(ip + 6);

		v.l4 = l3 + (ip[0] & 15) * 4;
		v.end = l3 + get16(ip + 2);
		if ((ip[0] & 15) < 5)
			return v;
		v.ttl = ip[8];
		v.protocol = ip[9];
		v.src = ip + 12;
		v.dst = ip + 16;
		v.fragment = field & 0x1fff ? LATER_FRAGMENT :
			     field & 0x2000 ? FIRST_FRAGMENT :
					      WHOLE;
		v.transport = true;
	} else {
		v.l4 = l3 + 40;
		v.end = v.l4 + get16(ip + 4);
		v.ttl = ip[7];
		v.protocol = ip[6];
		v.src = ip + 8;
		v.dst = ip + 24;
		walk_extensions(frame, length, &v);
	}
	v.ip = true;
	if (v.transport)
		find_ports(frame, length, &v);
	return v;
}

/* A whole one: its lengths make sense. */
static inline struct view parse_ip(const u8 *frame, u32 length, u32 l3, u8 family)
{
	struct view v = parse_quoted(frame, length, l3, family);

	if (v.family == 4 && v.end < v.l4)
		v.ip = false;
	if (v.l4 + 4 > v.end)
		v.ports = false;
	return v;
}

static inline struct view parse(const u8 *frame, u32 length)
{
	u8 family = 0;
	u32 l3 = skip_ethernet(frame, length, &family);

	return parse_ip(frame, length, l3, family);
}

static inline u64 sum_of(const u8 *p, u32 length)
{
	u64 sum = 0;
	u32 i;

	for (i = 0; i + 1 < length; i += 2)
		sum += get16(p + i);
	return length & 1 ? sum + (p[length - 1] << 8) : sum;
}

static inline u16 folded(u64 sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static inline bool header_holds(const u8 *frame, const struct view *v)
{
	return v->family == 6 || folded(sum_of(frame + v->l3, v->l4 - v->l3)) == 0xffff;
}

/* Where the checksum of the transport is; 0 if there is none that is looked at here. */
static inline u32 checksum_at(const struct view *v)
{
	if (v->protocol == TCP)
		return v->l4 + 16;
	if (v->protocol == UDP)
		return v->l4 + 6;
	return is_icmp(v) ? v->l4 + 2 : 0;
}

static inline u64 transport_sum(const u8 *frame, const struct view *v)
{
	u32 length = v->end - v->l4;
	u64 sum = sum_of(frame + v->l4, length);

	if (v->protocol == ICMP4)
		return sum;
	sum += sum_of(v->src, address_size(v->family)) + sum_of(v->dst, address_size(v->family));
	return sum + v->protocol + length;
}

/* True where the whole transport is there with a checksum, and it is right. */
static inline bool transport_holds(const u8 *frame, u32 length, const struct view *v)
{
	u32 at = checksum_at(v);

	if (!v->ip || !v->transport || v->fragment != WHOLE || !at || at + 2 > v->end ||
	    v->end > length)
		return false;
	if (v->protocol == UDP && !get16(frame + at))
		return false;
	return folded(transport_sum(frame, v)) == 0xffff;
}

#endif

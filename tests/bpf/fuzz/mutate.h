/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mutate.h - packets that nobody would send, and some that somebody would, drawn from a seed.
 */
#ifndef FUZZ_MUTATE_H
#define FUZZ_MUTATE_H

#include "packet.h"

#define FRAME_MAX 2048
#define FRAME_MIN 14 /* what the kernel takes */

struct frame {
	u32 length;
	u8 data[FRAME_MAX];
};

static u64 random_state;

/* splitmix64 */
static inline u32 draw(u32 below)
{
	u64 z = random_state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return below ? (z ^ z >> 31) % below : 0;
}

static inline bool chance(u32 percent)
{
	return draw(100) < percent;
}

/* Lengths as they are, checksums as they should be. */
static void make_right(struct frame *f, bool lengths)
{
	struct view v = parse(f->data, f->length);
	u8 *ip = f->data + v.l3;
	u32 at;

	if (!v.ip)
		return;
	if (lengths && f->length >= v.l4) {
		put16(ip + (v.family == 4 ? 2 : 4), f->length - v.l3 - (v.family == 4 ? 0 : 40));
		v = parse(f->data, f->length);
	}
	if (v.family == 4 && v.l4 <= f->length) {
		put16(ip + 10, 0);
		put16(ip + 10, ~folded(sum_of(ip, v.l4 - v.l3)));
	}
	at = checksum_at(&v);
	if (!v.transport || v.fragment != WHOLE || !at || at + 2 > v.end || v.end > f->length)
		return;
	if (lengths && v.protocol == UDP)
		put16(f->data + v.l4 + 4, v.end - v.l4);
	put16(f->data + at, 0);
	put16(f->data + at, ~folded(transport_sum(f->data, &v)));
}

static void insert(struct frame *f, u32 at, u32 count)
{
	if (f->length + count > FRAME_MAX || at > f->length)
		return;
	memmove(f->data + at + count, f->data + at, f->length - at);
	f->length += count;
}

static void change_tags(struct frame *f)
{
	if (chance(60)) {
		insert(f, 12, 4);
		put16(f->data + 12, chance(80) ? 0x8100 : 0x88a8);
		put16(f->data + 14, draw(65536));
	} else if (f->length > 30 && get16(f->data + 12) == 0x8100) {
		memmove(f->data + 12, f->data + 16, f->length - 16);
		f->length -= 4;
	}
}

/* Another client, or another of his ports: more flows. */
static void change_client(struct frame *f)
{
	struct view v = parse(f->data, f->length);

	if (!v.ip)
		return;
	if (chance(50) && v.ports)
		put16(f->data + v.l4, 1024 + draw(chance(50) ? 64 : 60000));
	else
		f->data[v.src - f->data + address_size(v.family) - 1] = draw(250);
}

static void change_field(struct frame *f)
{
	static const u16 telling[] = { 0, 1, 4, 7, 8, 19, 20, 28, 40, 0x2000, 0x3fff, 0x4000,
				       0x7fff, 0x8000, 0xff00, 0xffff };
	struct view v = parse(f->data, f->length);
	u32 at = v.l3 + 2 * draw(v.l4 > v.l3 ? (v.l4 - v.l3) / 2 + 10 : 20);

	if (at + 2 <= f->length)
		put16(f->data + at, chance(70) ? telling[draw(16)] : draw(65536));
}

/* Parts of IPv4 and IPv6 alike: version and length, TTL, next header, fragment offset. */
static void change_header(struct frame *f)
{
	static const u8 protocols[] = { 0, 1, 4, 6, 17, 41, 43, 44, 47, 50, 58, 59, 60, 132, 255 };
	struct view v = parse(f->data, f->length);
	u8 *ip = f->data + v.l3;

	if (!v.ip)
		return;
	switch (draw(5)) {
	case 0:
		ip[v.family == 4 ? 8 : 7] = draw(4);
		break;
	case 1:
		ip[v.family == 4 ? 9 : 6] = protocols[draw(sizeof(protocols))];
		break;
	case 2:
		ip[0] = draw(256);
		break;
	case 3:
		if (v.family == 4)
			put16(ip + 6, chance(50) ? 0x2000 : draw(65536));
		break;
	default:
		if (v.l4 + 14 <= f->length && v.protocol == TCP)
			f->data[v.l4 + (chance(80) ? 13 : 12)] = draw(256);
	}
}

static void mutate_once(struct frame *f, const struct frame *other)
{
	u32 near = f->length < 130 ? f->length : 130, at;

	switch (draw(11)) {
	case 0:
		f->data[draw(near)] ^= 1 << draw(8);
		break;
	case 1:
		f->data[draw(near)] = draw(256);
		break;
	case 2:
		change_field(f);
		break;
	case 3:
		f->length = FRAME_MIN + draw(f->length - FRAME_MIN + 1);
		break;
	case 4:
		at = f->length;
		insert(f, at, draw(64));
		while (at < f->length)
			f->data[at++] = draw(256);
		break;
	case 5:
		change_tags(f);
		break;
	case 6:
		at = draw(near);
		if (at < other->length) {
			memcpy(f->data + at, other->data + at, other->length - at);
			f->length = other->length;
		}
		break;
	case 7:
		at = draw(near);
		insert(f, at, 1 + draw(40));
		break;
	case 8:
		change_header(f);
		break;
	default:
		change_client(f);
	}
	if (f->length < FRAME_MIN)
		f->length = FRAME_MIN;
}

static void mutate(struct frame *f, const struct frame *other)
{
	u32 times = chance(40) ? 0 : 1 + draw(4), i;

	if (chance(1)) { /* nothing but noise */
		f->length = FRAME_MIN + draw(300);
		for (i = 0; i < f->length; i++)
			f->data[i] = draw(256);
		return;
	}
	if (chance(50))
		change_client(f);
	for (i = 0; i < times; i++)
		mutate_once(f, other);
	if (chance(60))
		make_right(f, chance(50));
}

#endif

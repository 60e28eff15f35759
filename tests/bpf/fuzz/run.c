// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * run.c - many packets through the program, each checked; a library that the test calls.
 */
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

#define LATER 64 /* packets that follow from what was sent: answers, errors */

struct corpus {
	const u8 *data;
	const u32 *offsets; /* count + 1 */
	u32 count;
};

struct result {
	u64 sent;
	u64 verdicts[5];
	u64 valid; /* of those sent on: came with checksums that hold */
	char wrong[128];
	struct frame in, out;
	u32 verdict;
};

static struct frame later[LATER];
static u32 laters;

static int run_program(int fd, u32 ifindex, const struct frame *in, struct frame *out, u32 *verdict)
{
	struct xdp_md context = { .data_end = in->length, .ingress_ifindex = ifindex };
	union bpf_attr attr = {};

	attr.test.prog_fd = fd;
	attr.test.data_in = (u64)(unsigned long)in->data;
	attr.test.data_size_in = in->length;
	attr.test.data_out = (u64)(unsigned long)out->data;
	attr.test.data_size_out = FRAME_MAX;
	attr.test.ctx_in = (u64)(unsigned long)&context;
	attr.test.ctx_size_in = sizeof(context);
	attr.test.repeat = 1;
	if (syscall(__NR_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr)))
		return -1;
	out->length = attr.test.data_size_out;
	*verdict = attr.test.retval;
	return 0;
}

static void swap(u8 *a, u8 *b, int size)
{
	u8 kept[16];

	memcpy(kept, a, size);
	memcpy(a, b, size);
	memcpy(b, kept, size);
}

/* Turn a packet round: what its receiver might answer. */
static void turn(struct frame *f)
{
	struct view v = parse(f->data, f->length);
	int size = address_size(v.family);

	swap(f->data + (v.src - f->data), f->data + (v.dst - f->data), size);
	if (v.ports)
		swap(f->data + v.l4, f->data + v.l4 + 2, 2);
	if (v.ports && v.protocol == TCP && v.l4 + 20 <= f->length)
		f->data[v.l4 + 13] = chance(50) ? 0x12 : 0x10;
	f->data[v.family == 4 ? v.l3 + 8 : v.l3 + 7] = chance(95) ? 61 : 1;
}

/* An ICMP error about an IP packet, from its receiver or somebody on the way. */
static void make_error(struct frame *f, const struct frame *about)
{
	static const u8 kinds4[][2] = { { 3, 3 }, { 3, 4 }, { 11, 0 }, { 12, 0 }, { 5, 0 } };
	static const u8 kinds6[][2] = { { 1, 4 }, { 2, 0 }, { 3, 0 }, { 4, 0 }, { 137, 0 } };
	struct view v = parse(about->data, about->length);
	u32 header = v.family == 4 ? 20 : 40, quoted = about->length - v.l3, kind = draw(5);
	u8 *ip = f->data + v.l3, *icmp = ip + header;

	memcpy(f->data, about->data, v.l3);
	if (quoted > 128)
		quoted = 128;
	memcpy(ip, about->data + v.l3, header);
	memcpy(icmp + 8, about->data + v.l3, quoted);
	memset(icmp, 0, 8);
	memcpy(icmp, v.family == 4 ? kinds4[kind] : kinds6[kind], 2);
	put16(icmp + 6, 1400);
	f->length = v.l3 + header + 8 + quoted;
	if (v.family == 4) {
		ip[0] = 0x45;
		put16(ip + 6, 0);
		ip[9] = ICMP4;
	} else {
		ip[6] = ICMP6;
	}
	make_right(f, true);
	turn(f);
	make_right(f, true);
}

/* Of a packet that was sent on: what may come back, to the server's side and to the VIP. */
static void expect_more(const struct frame *in, const struct frame *out)
{
	struct frame *f = &later[laters++ % LATER];
	const struct frame *from = chance(50) ? out : in;
	struct view v = parse(from->data, from->length);

	if (!v.ip || !v.transport || v.end > from->length || from->length > 600) {
		laters--;
		return;
	}
	if (chance(60)) {
		*f = *from;
		turn(f);
		make_right(f, false);
	} else if (from == out) {
		make_error(f, from);
	} else { /* the server's answer, quoted by a router before the client */
		static struct frame answer;

		answer = *from;
		turn(&answer);
		make_right(&answer, false);
		make_error(f, &answer);
	}
	memcpy(f->data, in->data, 12);
}

static void pick(const struct corpus *c, struct frame *f)
{
	u32 i = draw(c->count);

	if (laters && chance(30)) {
		*f = later[draw(laters < LATER ? laters : LATER)];
		return;
	}
	f->length = c->offsets[i + 1] - c->offsets[i];
	memcpy(f->data, c->data + c->offsets[i], f->length);
}

/*
 * What `explain` said of a packet, just before.  In a table that is full either may drop what the
 * other one would send: one takes a place, the other cannot, not even that of the flow's own stale
 * entry.  fullnat draws its ports anew each time; a connection that begins again has been uncounted
 * before lc and wlc compare loads.
 */
static const char *compare(const struct world *w, const struct frame *explained, u32 verdict,
			   const struct result *done)
{
	struct view o = parse(done->out.data, done->out.length);
	const struct pair *to = o.ip ? server_of(w, o.dst, o.family) : NULL;

	if ((verdict == XDP_PASS_) != (done->verdict == XDP_PASS_))
		return "explain has another verdict";
	if (verdict < XDP_TX_ || done->verdict < XDP_TX_)
		return NULL;
	if (verdict != done->verdict)
		return "explain sends it elsewhere";
	if (explained->length != done->out.length)
		return "explain makes another length of it";
	if (to && (to->forwarding == FULLNAT || to->by_load))
		return NULL;
	return memcmp(explained->data, done->out.data, explained->length) ?
		       "explain makes something else of it" :
		       NULL;
}

/* Returns 0: all held; 1: `result` has what did not; -1: the kernel did not run the program. */
int run(int fd, int explain, u32 ifindex, u64 seed, u64 count, const struct corpus *corpus,
	const struct world *world, struct result *result)
{
	static struct frame other, explained;
	const char *wrong;
	bool asked;
	u32 said;
	u64 n;

	random_state = seed;
	laters = 0;
	for (n = 0; n < count; n++) {
		pick(corpus, &result->in);
		pick(corpus, &other);
		mutate(&result->in, &other);
		asked = chance(20);
		if (asked && run_program(explain, ifindex, &result->in, &explained, &said))
			return -1;
		if (run_program(fd, ifindex, &result->in, &result->out, &result->verdict))
			return -1;
		result->sent++;
		if (result->verdict < 5)
			result->verdicts[result->verdict]++;
		wrong = check(world, &result->in, result->verdict, &result->out);
		if (!wrong && asked)
			wrong = compare(world, &explained, said, result);
		if (wrong) {
			snprintf(result->wrong, sizeof(result->wrong), "%s", wrong);
			return 1;
		}
		if (result->verdict >= XDP_TX_) {
			struct view v = parse(result->in.data, result->in.length);

			result->valid += transport_holds(result->in.data, result->in.length, &v);
			if (chance(50))
				expect_more(&result->in, &result->out);
		}
	}
	return 0;
}

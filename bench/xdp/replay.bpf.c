// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * replay.bpf.c - packet source for measuring an XDP program by BPF_PROG_TEST_RUN with repeat > 1.
 *
 * The kernel runs the program `repeat` times on ONE xdp_buff and never puts back what the program
 * changed (neither data and data_end nor the bytes), so a program that pushes a header sees its own
 * output as its next input.  This program stands in front of the program under test; each time it
 *
 *   1. moves data back so that the frame has its first length,
 *   2. writes the headers again: Ethernet, IP, and 20 bytes of what IP carries,
 *   3. picks another flow where that is asked for (an address and a port),
 *   4. tail-calls the unmodified program under test.
 *
 * The work done here is the same whatever the program under test did (bpf_xdp_adjust_head() is
 * called for a difference of 0 too), so it can be subtracted: measure the same replay in front of
 * "return XDP_TX".
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "replay.h"

#define L4_IPV4 34
#define L4_IPV6 54

/* Set by the harness before the load; the verifier makes constants of them. */
const volatile __u8 frame[TEMPLATE_SIZE] __attribute__((aligned(8))) = {};
const volatile __u32 frame_length = 64;
/* Flows: 0: always the template's own; else a power of two minus one (all bits: no flow comes
 * twice within 2^32 packets). */
const volatile __u32 flow_mask = 0;
/* The flows differ in destination: answers of one server to many clients. */
const volatile bool answers = false;

/* Shared with the harness through mmap. */
struct replay_state state = {};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} target SEC(".maps");

#define GIVEN(type, offset) (*(const volatile type *)(frame + (offset)))
#define PUT(type, offset, value) (*(volatile type *)(p + (offset)) = (value))
#define COPY(type, offset) PUT(type, offset, GIVEN(type, offset))

static __always_inline void *rewind_frame(struct xdp_md *ctx, __u32 headers)
{
	__u64 n = state.seq++, length;
	void *p;

	if (n == 0)
		state.t_first = bpf_ktime_get_ns();
	if (n == state.mark_last)
		state.t_last = bpf_ktime_get_ns();

	length = (__u64)(long)ctx->data_end - (__u64)(long)ctx->data;
	asm volatile("" : "+r"(length)); /* keep the pointer subtraction 64 bits wide */
	if (bpf_xdp_adjust_head(ctx, (int)length - (int)frame_length))
		return NULL;
	p = (void *)(long)ctx->data;
	return p + headers > (void *)(long)ctx->data_end ? NULL : p;
}

struct flow {
	__be32 addr;
	__be16 port;
};

static __always_inline struct flow next_flow(void)
{
	/* an odd factor makes this a permutation of 0..flow_mask: every flow comes once a round, in
	 * scattered order */
	__u32 i = ((__u32)state.flow_seq++ * 0x9e3779b1u) & flow_mask;

	return (struct flow){
		.addr = bpf_htonl(FIRST_FLOW | (i >> 8)),
		.port = bpf_htons(FIRST_FLOW_PORT + (i & 0xff)),
	};
}

/* Each value in one store as wide as anyone may load it, so that no load of the program under test
 * waits for two stores. */
static __always_inline void put_ethernet(void *p)
{
	COPY(__u32, 0);
	COPY(__u16, 4);
	COPY(__u32, 6);
	COPY(__u32, 10);
}

static __always_inline __u32 ports(__u32 l4, struct flow flow)
{
	__be16 other = GIVEN(__be16, answers ? l4 : l4 + 2);

	return answers ? (__u32)flow.port << 16 | other : (__u32)other << 16 | flow.port;
}

SEC("xdp")
int replay4(struct xdp_md *ctx)
{
	void *p = rewind_frame(ctx, L4_IPV4 + 20);

	if (!p)
		return XDP_ABORTED;
	put_ethernet(p);
	COPY(__u64, 14);
	COPY(__u32, 22);
	if (flow_mask) {
		struct flow flow = next_flow();
		__be32 other = GIVEN(__be32, answers ? 26 : 30);

		PUT(__u64, 26,
		    answers ? (__u64)flow.addr << 32 | other : (__u64)other << 32 | flow.addr);
		PUT(__u32, L4_IPV4, ports(L4_IPV4, flow));
	} else {
		COPY(__u64, 26);
		COPY(__u32, L4_IPV4);
	}
	COPY(__u64, L4_IPV4 + 4);
	COPY(__u64, L4_IPV4 + 12);
	bpf_tail_call(ctx, &target, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int replay6(struct xdp_md *ctx)
{
	void *p = rewind_frame(ctx, L4_IPV6 + 20);

	if (!p)
		return XDP_ABORTED;
	put_ethernet(p);
	COPY(__u64, 14);
	COPY(__u64, 22);
	COPY(__u64, 38);
	if (flow_mask) {
		struct flow flow = next_flow();

		/* the last word of an address; the words before it are a prefix */
		if (answers) {
			COPY(__u64, 30);
			PUT(__u64, 46, (__u64)flow.addr << 32 | GIVEN(__u32, 46));
		} else {
			PUT(__u64, 30, (__u64)flow.addr << 32 | GIVEN(__u32, 30));
			COPY(__u64, 46);
		}
		PUT(__u32, L4_IPV6, ports(L4_IPV6, flow));
	} else {
		COPY(__u64, 30);
		COPY(__u64, 46);
		COPY(__u32, L4_IPV6);
	}
	COPY(__u64, L4_IPV6 + 4);
	COPY(__u64, L4_IPV6 + 12);
	bpf_tail_call(ctx, &target, 0);
	return XDP_ABORTED;
}

char _license[] SEC("license") = "Dual BSD/GPL";

/* SPDX-License-Identifier: Apache-2.0 */
/* What replay.bpf.c and the harness both know. */
#ifndef BENCH_REPLAY_H
#define BENCH_REPLAY_H

#include <linux/types.h>

#define TEMPLATE_SIZE 80 /* what replay writes of a frame, rounded up */
#define FIRST_FLOW 0x0b000000u /* 11.0.0.0, and the port; others count on from there */
#define FIRST_FLOW_PORT 1024

struct replay_state {
	__u64 seq;	 /* iterations in this run; the harness sets 0 */
	__u64 mark_last; /* the iteration at whose start the clock is read again */
	__u64 t_first, t_last;
	__u64 flow_seq; /* goes on from run to run */
};

#endif

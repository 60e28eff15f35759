/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * count.h - what is counted: packets, bytes and connections by service and server, and why.
 *
 * Per CPU, hence without atomics; the control plane adds them up.
 */
#ifndef KERNLB_COUNT_H
#define KERNLB_COUNT_H

static __always_inline void count_reason(__u32 reason)
{
	__u64 *count = bpf_map_lookup_elem(&reasons, &reason);

	if (count)
		++*count;
}

static __always_inline void count_into(struct counters *counters, const struct packet *p,
				       bool begins)
{
	if (!counters)
		return;
	if (p->answers) {
		counters->packets_out++;
		counters->bytes_out += p->length;
		return;
	}
	counters->packets_in++;
	counters->bytes_in += p->length;
	counters->connections += begins;
}

/* Towards the server, or back; `begins`: it is the first of a connection. */
static __always_inline void count_packet(const struct packet *p, bool begins)
{
	__u32 service = p->why.service, server = p->why.server;

	if (p->dry)
		return;
	count_into(bpf_map_lookup_elem(&server_counters, &server), p, begins);
	count_into(bpf_map_lookup_elem(&service_counters, &service), p, begins);
}

#endif

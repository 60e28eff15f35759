/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sweep.h - frees what has expired, so that no entry ever has to cross into the control plane.
 *
 * A program of its own, called by the daemon a few thousand buckets at a time.  On request it
 * counts the connections of every server on the way, for the daemon to compare with `loads`.
 */
#ifndef KERNLB_SWEEP_H
#define KERNLB_SWEEP_H

struct sweep_walk {
	__u32 now;
	__u32 first, recount;
	__u32 used, expired, half_open;
};

static __always_inline void recount(union conn_word word)
{
	__u32 id = SERVER_ID(word.server);
	struct load *load = bpf_map_lookup_elem(&recounts, &id);

	if (!load)
		return;
	if (word.state == STATE_TEMPLATE)
		__sync_fetch_and_add(&load->persistent, 1);
	else if (word.flags & CONN_ACTIVE)
		__sync_fetch_and_add(&load->active, 1);
	else
		__sync_fetch_and_add(&load->inactive, 1);
}

static __always_inline void sweep_entry(struct sweep_walk *walk, struct conn *conn, __u32 index,
					const __u8 family)
{
	union conn_word word = { READ_ONCE(conn->word.word) };

	if (!(word.flags & CONN_USED))
		return;
	if (word.flags & CONN_REVERSE) {
		if (!is_orphan(conn, index, walk->now, family)) {
			walk->used++;
			return;
		}
	} else if (server_of_ref(word.server) && !is_expired(conn, word, walk->now)) {
		walk->used++;
		walk->half_open += is_half_open(word);
		if (walk->recount)
			recount(word);
		return;
	}
	walk->expired += conn_take(index, word.word, 0, family);
}

static __always_inline long sweep_bucket(struct sweep_walk *walk, __u32 n, const __u8 family)
{
	__u32 bucket = walk->first + n, way;
	void *ways = bucket_at(bucket, family);

	if (!ways)
		return 1;
	for (way = 0; way < CONN_WAYS; way++)
		sweep_entry(walk, way_of(ways, way, family), bucket * CONN_WAYS + way, family);
	return 0;
}

static long sweep4(__u32 n, struct sweep_walk *walk)
{
	return sweep_bucket(walk, n, FAMILY_IPV4);
}

static long sweep6(__u32 n, struct sweep_walk *walk)
{
	return sweep_bucket(walk, n, FAMILY_IPV6);
}

SEC("syscall")
int sweep(struct sweep *sweep)
{
	struct sweep_walk walk = {
		.now = bpf_ktime_get_ns() >> TICK_SHIFT, /* the coarse clock is not for syscalls */
		.first = sweep->first,
		.recount = sweep->recount,
	};

	if (sweep->family == FAMILY_IPV4)
		bpf_loop(sweep->count, sweep4, &walk, 0);
	else
		bpf_loop(sweep->count, sweep6, &walk, 0);
	sweep->used = walk.used;
	sweep->expired = walk.expired;
	sweep->half_open = walk.half_open;
	return 0;
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * conn_insert.h - a place in the table for a new connection.
 *
 * Where all eight places are taken, what has expired goes first, then what has not got beyond its
 * first packet (a SYN flood drives out itself), then what is closed.  What is established is never
 * driven out: the new flow gets no entry, and that is counted.
 */
#ifndef KERNLB_CONN_INSERT_H
#define KERNLB_CONN_INSERT_H

#include "conn.h"

/* Answers whose connection is gone.  A new pair of entries is not linked at once. */
#define ORPHAN_TICKS 2

/* Ticks since an entry was met; another CPU may be a tick ahead. */
static __always_inline __u32 age_of(const struct conn *conn, __u32 now)
{
	__s32 age = now - READ_ONCE(conn->seen);

	return age < 0 ? 0 : age;
}

static __always_inline bool is_orphan(const struct conn *conn, __u32 index, __u32 now,
				      const __u8 family)
{
	struct found found = {};

	return age_of(conn, now) > ORPHAN_TICKS && !connection_of(index, &found, family);
}

#define YIELDS_FIRST 0xffffffff
#define YIELDS_BEFORE_CLOSED 0x80000000

static __always_inline __u32 connection_yields(const struct conn *conn, union conn_word word,
					       __u32 now)
{
	if (is_expired(conn, word, now))
		return YIELDS_FIRST;
	if (is_half_open(word))
		return YIELDS_BEFORE_CLOSED + age_of(conn, now);
	return is_closed(word) ? age_of(conn, now) + 1 : 0;
}

/*
 * How readily an entry gives way: the larger, the sooner; 0: not at all.  What has expired, then
 * half-open ones, then closed ones, each the oldest first.  Answers go as their connection would,
 * and with it.
 */
__noinline __u32 yielding(__u32 index, __u32 now, __u8 family)
{
	struct conn *conn = conn_at(index, family), *connection;
	union conn_word word;
	struct found found = {};

	if (!conn)
		return 0;
	word.word = READ_ONCE(conn->word.word);
	if (word.flags & CONN_BUSY)
		return 0;
	if (!(word.flags & CONN_REVERSE))
		return connection_yields(conn, word, now);
	connection = connection_of(index, &found, family);
	if (connection)
		return connection_yields(connection, found.word, now);
	return age_of(conn, now) > ORPHAN_TICKS ? YIELDS_FIRST : 0;
}

/* Answers leave with their connection: it would not find them any more. */
__noinline int end_connection_of(__u32 answers, __u8 family)
{
	struct found found = {};

	return connection_of(answers, &found, family) &&
	       conn_take(found.index, found.word.word, 0, family);
}

struct vacancy {
	__u32 index; /* of a free place, or NONE */
	__u32 used;
};

static __always_inline struct vacancy vacancy_in(__u32 number, const __u8 family)
{
	struct vacancy found = { .index = NONE };
	void *bucket = bucket_at(number, family);
	int way;

	if (!bucket)
		return found;
#pragma unroll
	for (way = CONN_WAYS - 1; way >= 0; way--) {
		if (READ_ONCE(way_of(bucket, way, family)->word.word))
			found.used++;
		else
			found.index = number * CONN_WAYS + way;
	}
	return found;
}

/* The first choice while half of it is free, for look-ups begin there; else the emptier one. */
static __always_inline __u32 free_place(__u64 hash, const __u8 family)
{
	struct vacancy first = vacancy_in(bucket_of(hash, 0, family), family), second;

	if (first.used <= CONN_WAYS / 2)
		return first.index;
	second = vacancy_in(bucket_of(hash, 1, family), family);
	return second.used < first.used ? second.index : first.index;
}

/* None is free: whoever yields most readily of the eight. */
__noinline __u32 taken_place(__u64 hash, __u32 now, __u8 family)
{
	__u32 best = NONE, most = 0, index, readily;
	int i;

	for (i = 0; i < 2 * CONN_WAYS; i++) {
		index = bucket_of(hash, i >= CONN_WAYS, family) * CONN_WAYS + i % CONN_WAYS;
		readily = yielding(index, now, family);
		if (readily > most) {
			most = readily;
			best = index;
		}
	}
	return best;
}

/* What an entry holds beside its key. */
struct entry {
	union conn_word word;
	__u32 peer;
	__u32 now;
	__be16 source_port;
};

static __always_inline __u32 place_in(__u64 hash, __u32 now, const __u8 family)
{
	__u32 index = free_place(hash, family);

	return index == NONE ? taken_place(hash, now, family) : index;
}

/* Would there be a place?  For those who only ask. */
__noinline int conn_may_insert(const struct flow *flow, __u32 now)
{
	if (!flow)
		return false;
	if (flow->family == FAMILY_IPV4)
		return place_in(flow_hash(flow, FAMILY_IPV4), now, FAMILY_IPV4) != NONE;
	return place_in(flow_hash(flow, FAMILY_IPV6), now, FAMILY_IPV6) != NONE;
}

static __always_inline __u32 insert_in(const struct flow *flow, const struct entry *entry,
				       const __u8 family)
{
	__u64 hash = flow_hash(flow, family);
	union conn_word word = entry->word, was;
	struct conn *conn;
	__u32 index;

	word.tag = tag_of(hash);
	index = place_in(hash, entry->now, family);
	conn = conn_at(index, family);
	if (index == NONE || !conn)
		return NONE;
	was.word = READ_ONCE(conn->word.word);
	if (was.word && !yielding(index, entry->now, family))
		return NONE; /* another CPU has just put its own there */
	if (was.flags & CONN_REVERSE && end_connection_of(index, family))
		was.word = READ_ONCE(conn->word.word);
	if (!conn_take(index, was.word, conn_busy().word, family))
		return NONE; /* another CPU was faster: as if the table were full */
	conn->seen = entry->now;
	conn->peer = entry->peer;
	conn->sport = flow->sport;
	conn->dport = flow->dport;
	conn->source_port = entry->source_port;
	conn->protocol = flow->protocol;
	copy_addresses(conn->addr, flow->addr, family);
	/* a full barrier: the key is there before the word says so */
	__sync_val_compare_and_swap(&conn->word.word, conn_busy().word, word.word);
	count_in(word);
	return index;
}

/*
 * Make an entry.  Returns its index, or NONE where there is no place for it.
 *
 * Flows reach us on one CPU each as a rule.  Where two CPUs insert the same flow at the same time,
 * both entries stand, the one in front is found from then on, and the other expires.
 */
__noinline __u32 conn_insert(const struct flow *flow, const struct entry *entry)
{
	if (!flow || !entry)
		return NONE;
	return flow->family == FAMILY_IPV4 ? insert_in(flow, entry, FAMILY_IPV4) :
					     insert_in(flow, entry, FAMILY_IPV6);
}

#endif

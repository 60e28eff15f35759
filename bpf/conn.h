/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * conn.h - connections: two tables, found by the five-tuple as the packet has it.
 *
 * A table is an array of buckets of four entries, and a key may be in one of two buckets.  So a
 * look-up reads two cache lines as a rule and eight entries at most, an insert costs no more, and a
 * full table is as fast as an empty one; the kernel's LRU hash is none of these.  The price: a new
 * flow may find all eight places taken.  Then what has expired goes first, then what has not got
 * beyond its first packet (a SYN flood drives out itself), then what is closed.  What is established
 * is never driven out: the new flow gets no entry, and that is counted.
 *
 * No locks.  An entry's word is claimed by compare-and-swap, its key written, the word published;
 * whoever takes an entry out of use does so by compare-and-swap too, and he alone uncounts it.
 */
#ifndef KERNLB_CONN_H
#define KERNLB_CONN_H

#include "tcp_states.h"

#define SERVER_ID(ref) ((ref) & 0xffffff)
#define SERVER_REF(id, generation) ((id) | (__u32)(generation) << 24)

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* Being written: found by nobody, taken by nobody. */
static __always_inline union conn_word conn_busy(void)
{
	return (union conn_word){ .flags = CONN_BUSY };
}

/* The same value, of which the verifier knows nothing any more: a byte order there and back. */
static __always_inline __u32 unknown(__u32 value)
{
	asm volatile("%0 = be32 %0\n%0 = be32 %0" : "+r"(value));
	return value;
}

/* An entry that was found, as it was when it was found. */
struct found {
	union conn_word word;
	__u32 index; /* NONE: there is none */
};

static __always_inline __u32 now_tick(void)
{
	return bpf_ktime_get_coarse_ns() >> TICK_SHIFT;
}

/* 64 bits that an outsider cannot steer: tag, second bucket and first bucket are taken from it. */
static __always_inline __u64 flow_hash(const struct flow *flow, const __u8 family)
{
	const __be32 *a = flow->addr;
	__u64 h = hash_seed;

	h = (h ^ ((__u64)a[0] << 32 | a[1])) * 0x9e3779b97f4a7c15ULL;
	h ^= h >> 32;
	if (family == FAMILY_IPV6) {
		h = (h ^ ((__u64)a[2] << 32 | a[3])) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 32;
		h = (h ^ ((__u64)a[4] << 32 | a[5])) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 32;
		h = (h ^ ((__u64)a[6] << 32 | a[7])) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 32;
	}
	h ^= (__u64)flow->protocol << 32 | (__u32)flow->sport << 16 | flow->dport;
	h *= 0xd6e8feb86659fd93ULL;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ULL;
	return h ^ h >> 32;
}

static __always_inline __u16 tag_of(__u64 hash)
{
	return hash >> 48;
}

/* The bucket of a hash, first or second choice. */
static __always_inline __u32 bucket_of(__u64 hash, int choice, const __u8 family)
{
	__u32 mask = family == FAMILY_IPV4 ? conns4_mask : conns6_mask;

	return (choice ? hash >> 20 : hash) & mask;
}

static __always_inline void *bucket_at(__u32 bucket, const __u8 family)
{
	return family == FAMILY_IPV4 ? bpf_map_lookup_elem(&conns4, &bucket) :
				       bpf_map_lookup_elem(&conns6, &bucket);
}

static __always_inline struct conn *way_of(void *bucket, __u32 way, const __u8 family)
{
	return bucket + (way & (CONN_WAYS - 1)) * (family == FAMILY_IPV4 ? CONN4_SIZE : CONN6_SIZE);
}

static __always_inline struct conn *conn_at(__u32 index, __u8 family)
{
	void *bucket;

	if (family == FAMILY_IPV4) {
		bucket = bucket_at(index / CONN_WAYS, FAMILY_IPV4);
		if (!bucket)
			return NULL;
		bucket = way_of(bucket, index, FAMILY_IPV4);
	} else {
		bucket = bucket_at(index / CONN_WAYS, FAMILY_IPV6);
		if (!bucket)
			return NULL;
		bucket = way_of(bucket, index, FAMILY_IPV6);
		/* kept apart: the verifier of 6.1 does not bound a product of two variables */
		asm volatile("" : "+r"(bucket));
	}
	return bucket;
}

static __always_inline bool same_flow(const struct conn *conn, const struct flow *flow,
				      const __u8 family)
{
	const __be32 *a = conn->addr, *b = flow->addr;
	__u32 differs; /* one branch at the end is cheaper than one a field */

	differs = (conn->sport ^ flow->sport) | (conn->dport ^ flow->dport) |
		  (conn->protocol ^ flow->protocol) | (a[0] ^ b[0]) | (a[1] ^ b[1]);
	if (family == FAMILY_IPV6)
		differs |= (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5]) |
			   (a[6] ^ b[6]) | (a[7] ^ b[7]);
	return !differs;
}

/*
 * The entry of a flow; `found.index` is NONE where there is none.  Where in the table it lies is
 * hidden from the verifier, which else would follow each of the eight places to the end.
 */
static __always_inline struct conn *find_in(const struct flow *flow, struct found *found,
					    const __u8 family)
{
	__u64 hash = flow_hash(flow, family);
	int choice, way;

	found->index = NONE;
#pragma unroll
	for (choice = 0; choice < 2; choice++) {
		__u32 number = bucket_of(hash, choice, family);
		void *bucket = bucket_at(number, family);

		if (!bucket)
			return NULL;
#pragma unroll
		for (way = 0; way < CONN_WAYS; way++) {
			struct conn *conn = way_of(bucket, way, family);
			union conn_word word = { READ_ONCE(conn->word.word) };

			if (word.tag != tag_of(hash) || !(word.flags & CONN_USED) ||
			    !same_flow(conn, flow, family) ||
			    READ_ONCE(conn->word.word) != word.word)
				continue;
			found->word = word;
			found->index = number * CONN_WAYS + way;
			return way_of(bucket, unknown(way), family);
		}
	}
	return NULL;
}

/* For those who are not in a hurry; true if there is one. */
__noinline int conn_find(const struct flow *flow, struct found *found)
{
	if (!flow || !found)
		return false;
	if (flow->family == FAMILY_IPV4)
		find_in(flow, found, FAMILY_IPV4);
	else
		find_in(flow, found, FAMILY_IPV6);
	return found->index != NONE;
}

/* Its server, if that is still the one that the entry was made for. */
static __always_inline struct server *server_of_ref(__u32 ref)
{
	__u32 id = SERVER_ID(ref);
	struct server *server = bpf_map_lookup_elem(&servers, &id);

	if (!server || !(server->flags & SERVER_ALIVE) || server->generation != ref >> 24)
		return NULL;
	return server;
}

static __always_inline __u32 timeout_of(union conn_word word)
{
	__u32 id = SERVER_ID(word.server);
	struct service *service;
	struct server *server;

	if (word.state != STATE_TEMPLATE)
		return settings.timeouts[word.state & (STATES - 1)];
	server = bpf_map_lookup_elem(&servers, &id);
	if (!server)
		return 0;
	service = bpf_map_lookup_elem(&services, &server->service);
	return service ? service->persistence : 0;
}

static __always_inline bool is_expired(const struct conn *conn, union conn_word word, __u32 now)
{
	return (__s32)(now - READ_ONCE(conn->seen)) > (__s32)timeout_of(word);
}

/* Counts, and IPVS's thresholds: ip_vs_bind_dest() and ip_vs_unbind_dest() in ip_vs_conn.c. */
__noinline int load_change(__u32 ref, int active, int inactive)
{
	__u32 id = SERVER_ID(ref), total;
	struct server *server = bpf_map_lookup_elem(&servers, &id);
	struct load *load = bpf_map_lookup_elem(&loads, &id);

	if (!server || !load || server->generation != ref >> 24)
		return 0;
	if (active)
		__sync_fetch_and_add(&load->active, active);
	if (inactive)
		__sync_fetch_and_add(&load->inactive, inactive);
	if (!server->upper)
		return 0;
	total = load->active + load->inactive;
	if (total >= server->upper)
		load->overloaded = 1;
	else if (server->lower ? total < server->lower : total * 4 < server->upper * 3)
		load->overloaded = 0;
	return 0;
}

static __always_inline void count_template(__u32 ref, int change)
{
	__u32 id = SERVER_ID(ref);
	struct server *server = bpf_map_lookup_elem(&servers, &id);
	struct load *load = bpf_map_lookup_elem(&loads, &id);

	if (server && load && server->generation == ref >> 24)
		__sync_fetch_and_add(&load->persistent, change);
}

static __always_inline void count_in(union conn_word word)
{
	if (word.state == STATE_TEMPLATE)
		count_template(word.server, 1);
	else if (!(word.flags & CONN_REVERSE))
		load_change(word.server, !!(word.flags & CONN_ACTIVE), !(word.flags & CONN_ACTIVE));
}

static __always_inline void count_out(union conn_word word)
{
	if (word.state == STATE_TEMPLATE)
		count_template(word.server, -1);
	else if (!(word.flags & CONN_REVERSE))
		load_change(word.server, -!!(word.flags & CONN_ACTIVE),
			    -!(word.flags & CONN_ACTIVE));
}

/* Of a connection that goes: the entry of its answers. */
static __always_inline void free_answers(__u32 answers, __u32 index, __u8 family)
{
	struct conn *conn = conn_at(answers, family);
	union conn_word word;

	if (!conn)
		return;
	word.word = READ_ONCE(conn->word.word);
	if (word.flags & CONN_REVERSE && READ_ONCE(conn->peer) == index)
		__sync_val_compare_and_swap(&conn->word.word, word.word, 0);
}

/* True for the one who did it. */
static __always_inline bool take(__u32 index, union conn_word word, __u64 instead, __u8 family)
{
	struct conn *conn = conn_at(index, family);
	__u32 peer;

	if (!conn || word.flags & CONN_BUSY)
		return false;
	peer = READ_ONCE(conn->peer);
	if (!__sync_bool_compare_and_swap(&conn->word.word, word.word, instead))
		return false;
	if (word.word && peer != NONE && !(word.flags & CONN_REVERSE))
		free_answers(peer, index, family);
	return true;
}

/* Take an entry out of use, `instead` of which is there then; true for the one who did it. */
__noinline int conn_take(__u32 index, __u64 word_seen, __u64 instead, __u8 family)
{
	union conn_word word = { word_seen };

	if (!take(index, word, instead, family))
		return false;
	if (word.word) /* else it was free */
		count_out(word);
	return true;
}

/* The same for a connection whose successor is to be counted before it is counted out. */
__noinline int conn_retire(__u32 index, __u64 word_seen, __u8 family)
{
	union conn_word word = { word_seen };

	return take(index, word, 0, family);
}

/* Not beyond its first packet: what a flood is made of. */
static __always_inline bool is_half_open(union conn_word word)
{
	return word.state == STATE_SYN_RECV || word.state == STATE_SCTP_INIT ||
	       ((word.state == STATE_UDP || word.state == STATE_TEMPLATE) &&
		!(word.flags & CONN_CONFIRMED));
}

/* A client's port used anew, as IPVS sees it (is_new_conn_expected() in ip_vs_core.c). */
static __always_inline bool begins_again(const struct packet *p, union conn_word word)
{
	return !p->answers && p->flow.protocol == IPPROTO_TCP &&
	       (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN &&
	       (word.state == STATE_TIME_WAIT || word.state == STATE_CLOSE);
}

/* The connection of an entry of answers, if both still belong together. */
static __always_inline struct conn *connection_of(__u32 reverse, struct found *found,
						  const __u8 family)
{
	struct conn *answers = conn_at(reverse, family), *conn;

	if (!answers)
		return NULL;
	found->index = READ_ONCE(answers->peer);
	conn = conn_at(found->index, family);
	if (!conn)
		return NULL;
	found->word.word = READ_ONCE(conn->word.word);
	if (!(found->word.flags & CONN_USED) || found->word.flags & CONN_REVERSE ||
	    READ_ONCE(conn->peer) != reverse)
		return NULL;
	return conn;
}

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

static __always_inline bool is_closed(union conn_word word)
{
	return word.state == STATE_TIME_WAIT || word.state == STATE_CLOSE;
}

#define YIELDS_FIRST 0xffffffff
#define YIELDS_BEFORE_CLOSED 0x80000000

/*
 * How readily an entry gives way: the larger, the sooner; 0: not at all.  What has expired, then
 * half-open ones, then closed ones, each the oldest first.
 */
__noinline __u32 yielding(__u32 index, __u32 now, __u8 family)
{
	struct conn *conn = conn_at(index, family);
	union conn_word word;
	struct found found = {};
	__u32 age;

	if (!conn)
		return 0;
	word.word = READ_ONCE(conn->word.word);
	if (word.flags & CONN_BUSY)
		return 0;
	age = age_of(conn, now);
	if (word.flags & CONN_REVERSE) {
		/* else they go with their connection, wherever that lies */
		return age > ORPHAN_TICKS && !connection_of(index, &found, family) ? YIELDS_FIRST : 0;
	}
	if (is_expired(conn, word, now))
		return YIELDS_FIRST;
	if (is_half_open(word))
		return YIELDS_BEFORE_CLOSED + age;
	return is_closed(word) ? age + 1 : 0;
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

static __always_inline struct signals *signals_of(__u32 ref)
{
	__u32 id = SERVER_ID(ref);

	return bpf_map_lookup_elem(&signals, &id);
}

/* Of a server by what happens to the first packets of its connections. */
static __always_inline void note_first_packets(const struct packet *p, union conn_word was,
					       union conn_word next)
{
	struct signals *noted = signals_of(was.server);

	if (!noted)
		return;
	if (next.state == STATE_ESTABLISHED && was.state != STATE_ESTABLISHED)
		noted->begun++;
	else if (p->tcp_flags & TCP_SYN && !(p->tcp_flags & TCP_ACK))
		noted->syn_again++;
}

/* A packet of a known connection: its time, and its state where the packet may change that. */
static __always_inline void conn_touch(const struct packet *p, struct conn *conn,
				       union conn_word word, bool answer)
{
	union conn_word next = word;

	if (p->dry)
		return;
	if (conn->seen != p->now)
		WRITE_ONCE(conn->seen, p->now);
	if (p->flow.protocol == IPPROTO_TCP) {
		if (word.state == STATE_ESTABLISHED &&
		    (p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) == TCP_ACK)
			return;
		next.state = tcp_next_state(word.state, p->tcp_flags,
					    answer			? TCP_OUTPUT :
					    word.flags & CONN_BOTH_WAYS ? TCP_INPUT :
									  TCP_INPUT_ONLY);
		if (!answer && is_half_open(word))
			note_first_packets(p, word, next);
	} else if (p->flow.protocol == IPPROTO_UDP) {
		next.flags |= CONN_CONFIRMED;
	} else {
		next.state = sctp_next_state(word.state, p->sctp_chunk);
	}
	if (is_active(next.state))
		next.flags |= CONN_ACTIVE;
	else
		next.flags &= ~CONN_ACTIVE;
	if (next.word == word.word ||
	    !__sync_bool_compare_and_swap(&conn->word.word, word.word, next.word))
		return; /* another CPU changed it: its packet came first */
	if (next.flags & CONN_ACTIVE && !(word.flags & CONN_ACTIVE))
		load_change(word.server, 1, -1);
	else if (!(next.flags & CONN_ACTIVE) && word.flags & CONN_ACTIVE)
		load_change(word.server, -1, 1);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * conn_table.h - connections: two tables, found by the five-tuple as the packet has it.
 *
 * A table is an array of buckets of four entries, and a key may be in one of two buckets.  So a
 * look-up reads two cache lines as a rule and eight entries at most, an insert costs no more, and a
 * full table is as fast as an empty one; the kernel's LRU hash is none of these.  The price: a new
 * flow may find all eight places taken (conn_insert.h says who gives way).
 *
 * No locks.  An entry's word is claimed by compare-and-swap, its key written, the word published;
 * whoever takes an entry out of use does so by compare-and-swap too, and he alone uncounts it.
 */
#ifndef KERNLB_CONN_TABLE_H
#define KERNLB_CONN_TABLE_H

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

#endif

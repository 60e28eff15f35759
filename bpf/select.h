/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * select.h - which server takes a new connection.
 *
 * Each scheduler makes the choice that IPVS would make (net/netfilter/ipvs/ip_vs_{rr,wrr,lc,wlc,
 * sh,mh}.c).  IPVS lists the newest server first; here a new member is appended, so walks go from
 * the last member down.  A cursor moves by compare-and-swap: two CPUs never take the same turn.
 */
#ifndef KERNLB_SELECT_H
#define KERNLB_SELECT_H

#define CURSOR_ATTEMPTS 4
#define GOLDEN_RATIO_32 0x61c88647
#define MAGLEV_KEY 2654435761ULL

/*
 * A walk over the members of a service.
 *
 * Until 6.6 the verifier looks at a callback of bpf_loop() once, with the context as it is before
 * the first turn: what is constant then is constant for ever to it, and branches that later turns
 * need are thrown away.  So whatever a step both changes and branches on begins as unknown().
 */
struct walk {
	const struct service *service;
	struct run members;
	__u32 at;	  /* member to look at next */
	__u32 weight;	  /* wrr: weight that is asked for in this round */
	__u32 heaviest;	  /* wrr: heaviest that could take a connection, of a round from its start */
	__u32 rounds;	  /* wrr: begun since */
	__u32 least;	  /* lc, wlc: best so far */
	__u32 least_load, least_weight;
	bool by_weight;	  /* wlc */
};

static __always_inline struct server *slot_server(struct run run, __u32 i, __u32 *id)
{
	__u32 slot = run.first + i;
	__u32 *entry = bpf_map_lookup_elem(&slots, &slot);

	if (!entry || i >= run.count)
		return NULL;
	*id = *entry;
	return bpf_map_lookup_elem(&servers, id);
}

static __always_inline bool is_available(const struct server *server, __u32 id)
{
	struct load *load;

	if (!(server->flags & SERVER_ALIVE) || !server->weight)
		return false;
	if (!server->upper)
		return true;
	load = bpf_map_lookup_elem(&loads, &id);
	return load && !load->overloaded;
}

static long rr_step(__u32 n, struct walk *walk)
{
	struct server *server;
	__u32 id;

	walk->at = walk->at && walk->at < walk->members.count ? walk->at - 1 :
								walk->members.count - 1;
	server = slot_server(walk->members, walk->at, &id);
	if (!server || !is_available(server, id))
		return 0;
	walk->least = id;
	return 1;
}

/*
 * One server of the round.  IPVS lowers the weight by one step a round, down to 1, and looks at
 * every server in each; rounds that nobody can be heavy enough for are left out here.
 */
static long wrr_step(__u32 n, struct walk *walk)
{
	__u32 step = walk->service->step, spare, id;
	struct server *server;

	if (!walk->at || walk->at > walk->members.count) {
		if (walk->at <= walk->members.count) { /* a round has ended */
			walk->weight = walk->weight > step ? walk->weight - step :
							     walk->service->max_weight;
			if (walk->rounds++ && !walk->heaviest)
				return 1;
			if (walk->rounds > 1 && walk->weight > walk->heaviest && step) {
				spare = (walk->weight - walk->heaviest + step - 1) / step * step;
				walk->weight = walk->weight > spare ? walk->weight - spare : 1;
			}
		}
		walk->at = walk->members.count;
	}
	walk->at--;
	server = slot_server(walk->members, walk->at, &id);
	if (!server || !is_available(server, id))
		return 0;
	if (server->weight > walk->heaviest)
		walk->heaviest = server->weight;
	if (server->weight < walk->weight)
		return 0;
	walk->least = id;
	return 1;
}

/* ip_vs_dest_conn_overhead() */
static __always_inline __u32 overhead_of(__u32 id)
{
	struct load *load = bpf_map_lookup_elem(&loads, &id);

	return load ? (load->active << 8) + load->inactive : 0;
}

static long least_step(__u32 n, struct walk *walk)
{
	struct server *server;
	__u32 id, overhead;

	server = slot_server(walk->members, walk->members.count - 1 - n, &id);
	if (!server || !is_available(server, id))
		return 0;
	overhead = overhead_of(id);
	if (walk->least != NONE &&
	    (walk->by_weight ? (__u64)walk->least_load * server->weight <=
				       (__u64)overhead * walk->least_weight :
			       overhead >= walk->least_load))
		return 0;
	walk->least = id;
	walk->least_load = overhead;
	walk->least_weight = server->weight;
	return 0;
}

static __noinline __u32 select_by_turn(struct service *service, bool weighted, bool dry)
{
	struct walk walk = { .service = service };
	__u32 limit, attempt;
	__u64 cursor, next;

	for (attempt = 0; attempt < CURSOR_ATTEMPTS; attempt++) {
		cursor = READ_ONCE(service->cursor);
		walk.members = service->members;
		walk.at = (__u32)cursor;
		walk.weight = cursor >> 32;
		walk.least = NONE;
		walk.heaviest = walk.rounds = unknown(0);
		limit = walk.members.count;
		if (!limit)
			return NONE;
		if (weighted)
			bpf_loop(3 * limit + 1, wrr_step, &walk, 0);
		else if (!rr_step(0, &walk))
			bpf_loop(limit - 1, rr_step, &walk, 0);
		if (dry)
			break;
		next = (__u64)walk.weight << 32 | walk.at;
		/* all that have a weight are overloaded: IPVS begins anew from the heaviest */
		if (walk.least == NONE) {
			if (!weighted || !service->max_weight ||
			    ((__u32)cursor < limit && cursor >> 32 <= service->step))
				break;
			next = (__u64)service->max_weight << 32 | limit;
		}
		if (__sync_bool_compare_and_swap(&service->cursor, cursor, next))
			break;
	}
	return walk.least;
}

static __noinline __u32 select_by_load(struct service *service, bool by_weight)
{
	struct walk walk = {
		.members = service->members,
		.least = unknown(NONE),
		.least_load = unknown(0),
		.least_weight = unknown(0),
		.by_weight = by_weight,
	};

	bpf_loop(walk.members.count, least_step, &walk, 0);
	return walk.least;
}

static __always_inline __u64 rotated(__u64 value, int bits)
{
	return value << bits | value >> (64 - bits);
}

#define SIP_ROUND()                                                                                \
	do {                                                                                       \
		v0 += v1, v1 = rotated(v1, 13) ^ v0, v0 = rotated(v0, 32);                          \
		v2 += v3, v3 = rotated(v3, 16) ^ v2;                                               \
		v0 += v3, v3 = rotated(v3, 21) ^ v0;                                               \
		v2 += v1, v1 = rotated(v1, 17) ^ v2, v2 = rotated(v2, 32);                          \
	} while (0)

/* hsiphash_1u32() of lib/siphash.c on 64 bits, with the key of ip_vs_mh.c */
static __always_inline __u32 maglev_hash(__u32 value)
{
	__u64 v0 = 0x736f6d6570736575ULL ^ MAGLEV_KEY, v1 = 0x646f72616e646f6dULL ^ MAGLEV_KEY;
	__u64 v2 = 0x6c7967656e657261ULL ^ MAGLEV_KEY, v3 = 0x7465646279746573ULL ^ MAGLEV_KEY;
	__u64 block = 4ULL << 56 | value;

	v3 ^= block;
	SIP_ROUND();
	v0 ^= block;
	v2 ^= 0xff;
	SIP_ROUND();
	SIP_ROUND();
	SIP_ROUND();
	return v0 ^ v1 ^ v2 ^ v3;
}

/* The slot of a client; `offset` tries others where that one's server cannot take it. */
static __always_inline __u32 slot_of(const struct service *service, __u32 client, __u32 offset)
{
	__u32 size = service->table.count;

	if (service->scheduler == SCHEDULE_MH)
		return size ? maglev_hash(client + offset) % size : 0;
	/* the upper bits of the product; size is a power of two */
	return ((((__u64)(__u32)(client * GOLDEN_RATIO_32)) * size >> 32) + offset) & (size - 1);
}

struct probe {
	const struct service *service;
	__u32 client, first, server;
};

static long any_step(__u32 n, struct probe *probe)
{
	struct server *server;
	__u32 id;

	server = slot_server(probe->service->members, n, &id);
	if (!server || !is_available(server, id))
		return 0;
	probe->server = id;
	return 1;
}

static long probe_step(__u32 n, struct probe *probe)
{
	const struct service *service = probe->service;
	__u32 offset = (n + probe->first) % (service->table.count ?: 1), id;
	struct server *server =
		slot_server(service->table, slot_of(service, probe->client, offset), &id);

	if (!server || !is_available(server, id))
		return 0;
	probe->server = id;
	return 1;
}

/* ip_vs_sh_get(), ip_vs_mh_get_fallback() and their like */
static __noinline __u32 select_by_hash(const struct service *service, __u32 client)
{
	struct probe probe = { .service = service, .client = client };
	struct server *server;
	__u32 id;

	probe.server = unknown(NONE);
	probe.first = slot_of(service, client, 0);
	server = slot_server(service->table, probe.first, &id);
	if (server && is_available(server, id))
		return id;
	if (!(service->flags & SERVICE_FALLBACK))
		return NONE;
	/* a table is many times as long as the list of members: is it worth the walk? */
	bpf_loop(service->members.count, any_step, &probe, 0);
	if (unknown(probe.server) == NONE)
		return NONE;
	probe.server = unknown(NONE);
	bpf_loop(service->table.count, probe_step, &probe, 0);
	return probe.server;
}

static __always_inline bool is_hashed(const struct service *service)
{
	return service->scheduler >= SCHEDULE_SH;
}

/* What a client hashes by. */
static __always_inline __u32 client_of(const struct flow *flow, const struct service *service)
{
	__u32 client = flow->family == FAMILY_IPV4 ? folded(flow->addr, FAMILY_IPV4) :
						     folded(flow->addr, FAMILY_IPV6);

	return service->flags & SERVICE_HASH_PORT ? client + bpf_ntohs(flow->sport) : client;
}

/* Id of a server, or NONE. */
static __always_inline __u32 select_server(const struct packet *p, struct service *service)
{
	__u32 client = client_of(&p->flow, service);

	switch (service->scheduler) {
	case SCHEDULE_RR:
		return select_by_turn(service, false, p->dry);
	case SCHEDULE_WRR:
		return select_by_turn(service, true, p->dry);
	case SCHEDULE_LC:
		return select_by_load(service, false);
	case SCHEDULE_WLC:
		return select_by_load(service, true);
	default:
		return select_by_hash(service, client);
	}
}

#endif

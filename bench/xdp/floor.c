// SPDX-License-Identifier: Apache-2.0
/*
 * floor.c - the cases of floor.bpf.c.
 *
 * How full and how churned a connection table is decides most of what many flows cost, so each
 * state of the table is a world of its own.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "floor.h"

#define VIP 0x0ac80101u
#define STATELESS_VIP 0x0ac80102u
#define FLOWS_OF_ANSWERS 65536
#define BATCH 65536

enum world {
	SPARSE,
	HALF_MILLION,
	FULL,
	FULL6,
	EMPTY,
	FULL_1M,
	FULL_1M_PER_CPU, /* BPF_F_NO_COMMON_LRU */
	FULL_32K,	 /* fits the cache */
	WORLDS,
};

static struct bpf_object *worlds[WORLDS];
static char path[512];

static void put_vip(struct bpf_object *o, uint32_t id, uint32_t address, uint16_t port,
		    uint8_t protocol, uint32_t flags)
{
	struct floor_vip vip = { .id = id, .flags = flags };
	struct floor_vip_key key = { .addr = htonl(address),
				     .port = htons(port),
				     .protocol = protocol };
	struct floor_vip6_key key6 = { .port = htons(port), .protocol = protocol };

	address_bytes(6, address, key6.addr);
	bpf_map_update_elem(map_of(o, "vips"), &key, &vip, 0);
	bpf_map_update_elem(map_of(o, "vips6"), &key6, &vip, 0);
}

static void put_backends(struct bpf_object *o)
{
	uint32_t i;

	for (i = 1; i <= SERVERS; i++) {
		struct floor_backend b = { .mac = { 2, 0, 0, 0, 0, 0xfe },
					   .port = htons(SERVER_PORT) };

		address_bytes(6, FIRST_SERVER + i, b.addr);
		address_bytes(6, OWN_ADDRESS, b.local);
		bpf_map_update_elem(map_of(o, "backends6"), &i, &b, 0);
		address_bytes(4, FIRST_SERVER + i, b.addr);
		address_bytes(4, OWN_ADDRESS, b.local);
		b.sum = (b.addr[0] & 0xffff) + (b.addr[0] >> 16) + (b.local[0] & 0xffff) +
			(b.local[0] >> 16);
		bpf_map_update_elem(map_of(o, "backends"), &i, &b, 0);
	}
	for (i = 0; i < FLOOR_RING; i++) {
		uint32_t backend = 1 + (i * 2654435761u >> 7) % SERVERS;

		bpf_map_update_elem(map_of(o, "ring"), &i, &backend, 0);
	}
}

/* The connections that ANSWER_1 and ANSWER_64K answer. */
static void put_answers(struct bpf_object *o)
{
	struct floor_flow flow = { .saddr = htonl(FIRST_SERVER + 1),
				   .daddr = htonl(CLIENT),
				   .sport = htons(SERVER_PORT),
				   .dport = htons(CLIENT_PORT),
				   .protocol = IPPROTO_TCP };
	struct floor_conn conn = { .backend = 1, .vip = htonl(VIP) };
	uint32_t i;

	bpf_map_update_elem(map_of(o, "conns"), &flow, &conn, 0);
	for (i = 0; i < FLOWS_OF_ANSWERS; i++) {
		flow.daddr = htonl(FIRST_FLOW | (i >> 8));
		flow.dport = htons(FIRST_FLOW_PORT + (i & 0xff));
		bpf_map_update_elem(map_of(o, "conns"), &flow, &conn, 0);
	}
}

static struct bpf_object *world(enum world which)
{
	static const uint32_t sizes[WORLDS] = { CONNECTIONS, CONNECTIONS, CONNECTIONS, CONNECTIONS,
						CONNECTIONS, 1048576,	  1048576,     32768 };
	struct bpf_object *o = worlds[which];

	if (o)
		return o;
	o = worlds[which] = open_object(path);
	set_entries(o, "conns", which == FULL6 ? 1 : sizes[which]);
	set_entries(o, "conns6", which == SPARSE || which == FULL6 ? sizes[which] : 1);
	if (which == FULL_1M_PER_CPU)
		bpf_map__set_map_flags(bpf_object__find_map_by_name(o, "conns"),
				       BPF_F_NO_COMMON_LRU);
	if (bpf_object__load(o))
		die("floor does not load");
	put_vip(o, 1, VIP, 80, IPPROTO_TCP, 0);
	put_vip(o, 2, VIP, 53, IPPROTO_UDP, 0);
	put_vip(o, 3, STATELESS_VIP, 80, IPPROTO_TCP, FLOOR_NO_CONNECTION);
	put_backends(o);
	if (which == SPARSE)
		put_answers(o);
	return o;
}

static enum world world_of(enum kind kind)
{
	switch (kind) {
	case TCP_512K: return HALF_MILLION;
	case TCP_64K_FULL:
	case ACK_NEW:
	case SYN_NEW: return FULL;
	case ACK6_NEW: return FULL6;
	case ACK_NEW_EMPTY: return EMPTY;
	default: return SPARSE;
	}
}

static struct bench_case *add(const char *target, const char *program, enum world which,
			      enum kind kind, enum outcome want)
{
	const bool answers = traffics[kind].answers;
	struct bench_case c = {
		.target = target,
		.label = "",
		.floor = "floor-iii",
		.traffic = &traffics[kind],
		.packet = packet_to(kind, kind == SYN_NO_ENTRY ? STATELESS_VIP : VIP,
				    traffics[kind].protocol == IPPROTO_TCP ? 80 : 53),
		.want = want,
		.program = program_of(world(which), program),
	};

	if (want == PASSED)
		c.packet.destination = OTHER_HOST;
	if (answers) {
		c.packet.source = FIRST_SERVER + 1;
		c.packet.sport = SERVER_PORT;
		c.packet.destination = CLIENT;
		c.packet.dport = CLIENT_PORT;
	}
	return add_case(c);
}

/* All entries of a table out. */
static void empty(struct bench_case *c)
{
	int conns = map_of(worlds[EMPTY], "conns");
	struct floor_flow *keys = calloc(BATCH, sizeof(*keys));
	struct floor_conn *values = calloc(BATCH, sizeof(*values));
	uint32_t from, to, n;
	int first = 1, stop;

	if (!keys || !values)
		die("no memory");
	do {
		n = BATCH;
		stop = bpf_map_lookup_and_delete_batch(conns, first ? NULL : &from, &to, keys,
						       values, &n, NULL);
		from = to;
		first = 0;
	} while (!stop);
	free(keys);
	free(values);
}

static void other_tables(enum kind kind)
{
	static const struct {
		const char *target;
		enum world world;
		uint32_t entries;
	} tables[] = {
		{ "floor-iii-1M", FULL_1M, 1048576 },
		{ "floor-iii-1M-per-cpu", FULL_1M_PER_CPU, 1048576 },
		{ "floor-iii-32K", FULL_32K, 32768 },
	};
	struct bench_case *c;
	unsigned int i;
	bool is_new;

	for (i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		if (kind == TCP_64K_FULL && tables[i].entries < 65536)
			continue;
		is_new = !worlds[tables[i].world];
		c = add(tables[i].target, "floor_tunnel", tables[i].world, kind, SENT_IPV4);
		if (is_new)
			turn_over(c->program, kind, c->packet);
	}
}

/* The same traffic by the least that another forwarding method can do. */
static void other_methods(enum kind kind)
{
	add("floor-iii-counted", "floor_counted", world_of(kind), kind, SENT_IPV4);
	add("floor-iii-dsr", "floor_dsr", world_of(kind), kind, SENT_L2);
	add("floor-iii-nat", "floor_nat", world_of(kind), kind, SENT_REWRITTEN);
}

static void cases_of(enum kind kind, const struct options *options)
{
	const bool six = traffics[kind].family == 6, answers = traffics[kind].answers;
	enum world which = world_of(kind);
	bool is_new = !worlds[which];
	struct bench_case *c;

	if (kind == OTHER || kind == OTHER_64K || kind == OTHER6)
		c = add("floor-iii", six ? "floor_tunnel6" : "floor_tunnel", which, kind, PASSED);
	else if (answers && six)
		c = NULL; /* no such floor */
	else if (answers)
		c = add("floor-iii", "floor_answer", which, kind, SENT_REWRITTEN);
	else if (six)
		c = add("floor-iii", "floor_tunnel6", which, kind, SENT_IPV6);
	else
		c = add("floor-iii", "floor_tunnel", which, kind, SENT_IPV4);
	if (c && is_new && (which == FULL || which == FULL6))
		turn_over(c->program, kind, c->packet);
	if (c && which == EMPTY)
		c->before = empty;

	add("floor-i", "floor_tx", which, kind, SENT);
	if (six || answers)
		return;
	if (kind == TCP_1 || kind == TCP_64K || kind == UDP_1)
		add("floor-ii", "floor_swap", which, kind, SENT);
	if (kind == TCP_1)
		other_methods(kind);
	if (which == FULL && !options->quick)
		other_tables(kind);
}

void floor_cases(const struct options *options)
{
	int kind;

	snprintf(path, sizeof(path), "%s/floor.bpf.o", options->objects);
	for (kind = 0; kind < KINDS; kind++)
		if (needed[kind])
			cases_of(kind, options);
}

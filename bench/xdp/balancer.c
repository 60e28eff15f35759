// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "balancer.h"
#include "cases.h"

#define SERVICES 128
#define SERVER_ENTRIES 65536
#define SLOTS (1 << 20)
#define FIRST_VIP 0x0ac80101u
#define SWEEP_BUCKETS 65536
#define MAX_CPUS 1024

/* net/netfilter/ipvs/ip_vs_proto_{tcp,udp,sctp}.c, in seconds */
static const uint16_t timeouts[STATES] = {
	[STATE_NONE] = 2,	 [STATE_ESTABLISHED] = 900,	 [STATE_SYN_SENT] = 120,
	[STATE_SYN_RECV] = 60,	 [STATE_FIN_WAIT] = 120,	 [STATE_TIME_WAIT] = 120,
	[STATE_CLOSE] = 10,	 [STATE_CLOSE_WAIT] = 60,	 [STATE_LAST_ACK] = 30,
	[STATE_LISTEN] = 120,	 [STATE_SYNACK] = 120,		 [STATE_UDP] = 300,
	[STATE_SCTP_INIT] = 120, [STATE_SCTP_ESTABLISHED] = 900, [STATE_SCTP_CLOSING] = 10,
};

static void *mapped(struct bpf_object *object, const char *name, size_t size)
{
	long page = sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, (size + page - 1) / page * page, PROT_READ | PROT_WRITE, MAP_SHARED,
		       map_of(object, name), 0);

	if (p == MAP_FAILED)
		die("cannot map %s: %s", name, strerror(errno));
	return p;
}

struct balancer *load_balancer(const char *path, uint32_t conns4, uint32_t conns6)
{
	struct balancer *b = calloc(1, sizeof(*b));
	struct bpf_object *o = open_object(path);
	struct abi abi = { .version = ABI_VERSION };
	uint32_t zero = 0;

	if (!b)
		die("no memory");
	b->object = o;
	set_entries(o, "service_ids", 2 * SERVICES);
	set_entries(o, "services", SERVICES);
	set_entries(o, "service_counters", SERVICES);
	set_entries(o, "servers", SERVER_ENTRIES);
	set_entries(o, "server_counters", SERVER_ENTRIES);
	set_entries(o, "loads", SERVER_ENTRIES);
	set_entries(o, "recounts", SERVER_ENTRIES);
	set_entries(o, "slots", SLOTS);
	set_entries(o, "conns4", conns4 / CONN_WAYS);
	set_entries(o, "conns6", conns6 / CONN_WAYS);
	*(uint64_t *)variable(o, ".rodata", "hash_seed") = 0x243f6a8885a308d3ULL;
	*(uint32_t *)variable(o, ".rodata", "conns4_mask") = conns4 / CONN_WAYS - 1;
	*(uint32_t *)variable(o, ".rodata", "conns6_mask") = conns6 / CONN_WAYS - 1;
	*(uint32_t *)variable(o, ".rodata", "cpus") = libbpf_num_possible_cpus();
	if (bpf_object__load(o))
		die("%s does not load", path);
	bpf_map_update_elem(map_of(o, "abi"), &zero, &abi, 0);
	b->services = mapped(o, "services", SERVICES * sizeof(*b->services));
	b->servers = mapped(o, "servers", SERVER_ENTRIES * sizeof(*b->servers));
	b->slots = mapped(o, "slots", SLOTS * sizeof(*b->slots));
	b->filter = mapped(o, ".data.filter", FILTER_SIZE);
	b->settings = mapped(o, ".data.settings", sizeof(*b->settings));
	set_timeouts(b, USUAL);
	return b;
}

void set_timeouts(struct balancer *b, enum expiry expiry)
{
	int i;

	b->expiry = expiry;
	for (i = 0; i < STATES; i++)
		b->settings->timeouts[i] = expiry == SOON  ? 1 :
					   expiry == NEVER ? 0x7fffffff :
							     SECONDS_TO_TICKS(timeouts[i]);
}

static uint32_t cell_of(uint8_t family, uint32_t address)
{
	uint32_t words[4];

	address_bytes(family, address, words);
	return (ntohl(words[0] ^ words[1] ^ words[2] ^ words[3]) * 0x9e3779b1u) >> 16;
}

uint32_t vip_of(uint32_t service)
{
	return FIRST_VIP + service;
}

uint16_t port_of(uint8_t protocol)
{
	return protocol == IPPROTO_TCP ? 80 : 53;
}

uint32_t beside(const struct balancer *b, uint32_t vip)
{
	uint32_t address = OTHER_HOST, i;

	for (;; address++) {
		for (i = 0; i < b->service_count && address != vip_of(i); i++)
			;
		if (i == b->service_count && cell_of(4, address) == cell_of(4, vip))
			return address;
	}
}

static uint32_t put_server(struct balancer *b, uint32_t service, const struct service_given *given,
			   uint32_t weight)
{
	uint32_t id = b->server_count++;
	struct server *server = &b->servers[id];
	uint8_t family = given->forwarding == FORWARD_TUNNEL && given->tunnel_family ?
				 given->tunnel_family :
				 given->family;
	const bool rewrites =
		given->forwarding == FORWARD_NAT || given->forwarding == FORWARD_FULLNAT;

	if (id == SERVER_ENTRIES)
		die("too many servers");
	address_bytes(family, FIRST_SERVER + id, server->addr);
	address_bytes(family, OWN_ADDRESS, server->source);
	server->hop.ifindex = ingress(); /* the same interface: XDP_TX */
	memcpy(server->hop.dst, "\x02\0\0\0\0\xfe", 6);
	memcpy(server->hop.src, "\x02\0\0\0\0\x01", 6);
	server->service = service;
	server->generation = 1;
	server->family = family;
	server->forwarding = given->forwarding;
	server->weight = server->last_weight = weight;
	server->port = rewrites ? htons(SERVER_PORT) : 0;
	server->mtu = 1460;
	server->tunnel = given->tunnel;
	server->tunnel_port = htons(GUE_PORT);
	if (family == FAMILY_IPV4)
		server->outer_sum = (server->addr[0] & 0xffff) + (server->addr[0] >> 16) +
				    (server->source[0] & 0xffff) + (server->source[0] >> 16);
	if (rewrites)
		b->filter[cell_of(family, FIRST_SERVER + id)] |= MARK_SERVER;
	server->flags = SERVER_ALIVE | SERVER_HOP_KNOWN;
	return id;
}

/* Size of a hash scheduler's table (DESIGN: the smallest that is large enough). */
static uint32_t table_size(uint8_t scheduler, uint32_t servers)
{
	static const uint32_t primes[] = { 4093, 8191, 16381, 32749, 65521 };
	uint32_t size = 256;
	int i = 0;

	if (scheduler == SCHEDULE_MH) {
		while (i < 4 && primes[i] < 16 * servers)
			i++;
		return primes[i];
	}
	while (size < servers)
		size *= 2;
	return size;
}

static struct run put_run(struct balancer *b, uint32_t count)
{
	struct run run = { .first = b->slot_count, .count = count };

	b->slot_count += count;
	if (b->slot_count > SLOTS)
		die("too many slots");
	return run;
}

uint32_t put_service(struct balancer *b, const struct service_given *given)
{
	const bool weighted = given->scheduler == SCHEDULE_WRR || given->scheduler == SCHEDULE_WLC;
	uint32_t id = b->service_count++, first = b->server_count, i;
	struct service *service = &b->services[id];
	struct service_key key = { .port = htons(port_of(given->protocol)),
				   .protocol = given->protocol,
				   .family = given->family };
	uint32_t protocols = given->protocol == IPPROTO_TCP ? VIP_TCP : VIP_UDP;
	struct run run;

	if (id == SERVICES)
		die("too many services");
	run = put_run(b, given->servers);
	for (i = 0; i < given->servers; i++)
		b->slots[run.first + i] = put_server(b, id, given, weighted ? 1 + i % 3 : 1);
	service->members = run;
	if (given->scheduler >= SCHEDULE_SH) {
		run = put_run(b, table_size(given->scheduler, given->servers));
		for (i = 0; i < run.count; i++) /* dealt anyhow: reading it costs the same */
			b->slots[run.first + i] = first + (i * 2654435761u >> 7) % given->servers;
		service->table = run;
	}
	service->scheduler = given->scheduler;
	service->family = given->family;
	service->protocol = given->protocol;
	service->port = key.port;
	service->step = 1;
	service->max_weight = given->servers < 3 ? given->servers : 3;
	if (given->scheduler == SCHEDULE_WRR)
		service->cursor = (uint64_t)service->max_weight << 32 | given->servers;
	address_bytes(given->family, vip_of(id), service->addr);
	service->flags = SERVICE_ALIVE;
	memcpy(key.addr, service->addr, sizeof(key.addr));
	if (bpf_map_update_elem(map_of(b->object, "service_ids"), &key, &id, 0))
		die("cannot add a service: %s", strerror(errno));
	key.port = key.protocol = 0; /* which protocols the address has services of */
	if (bpf_map_update_elem(map_of(b->object, "service_ids"), &key, &protocols, 0))
		die("cannot add an address: %s", strerror(errno));
	b->filter[cell_of(given->family, vip_of(id))] |= MARK_VIP;
	return id;
}

uint64_t sweep_table(struct balancer *b, uint8_t family)
{
	uint32_t buckets = bpf_map__max_entries(bpf_object__find_map_by_name(
		b->object, family == FAMILY_IPV4 ? "conns4" : "conns6"));
	struct sweep sweep = { .family = family, .count = SWEEP_BUCKETS };
	LIBBPF_OPTS(bpf_test_run_opts, o, .ctx_in = &sweep, .ctx_size_in = sizeof(sweep));
	uint64_t used = 0;

	for (; sweep.first < buckets; sweep.first += SWEEP_BUCKETS) {
		if (bpf_prog_test_run_opts(program_of(b->object, "sweep"), &o))
			die("cannot sweep: %s", strerror(errno));
		used += sweep.used;
	}
	return used;
}

void read_reasons(const struct balancer *b, uint64_t *reasons)
{
	int cpus = libbpf_num_possible_cpus(), cpu;
	uint64_t values[MAX_CPUS];
	uint32_t i;

	for (i = 0; i < REASONS; i++) {
		reasons[i] = 0;
		bpf_map_lookup_elem(map_of(b->object, "reasons"), &i, values);
		for (cpu = 0; cpu < cpus; cpu++)
			reasons[i] += values[cpu];
	}
}

/* Of all services. */
uint64_t read_connections(const struct balancer *b)
{
	int cpus = libbpf_num_possible_cpus(), cpu;
	struct counters values[MAX_CPUS];
	uint64_t sum = 0;
	uint32_t id;

	for (id = 0; id < b->service_count; id++) {
		bpf_map_lookup_elem(map_of(b->object, "service_counters"), &id, values);
		for (cpu = 0; cpu < cpus; cpu++)
			sum += values[cpu].connections;
	}
	return sum;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* balancer.h - one load of kernlb.bpf.o, with its maps filled as the control plane fills them. */
#ifndef BENCH_BALANCER_H
#define BENCH_BALANCER_H

#include "../../bpf/abi.h"
#include "harness.h"

#define SECONDS_TO_TICKS(s) ((uint32_t)((s)*1000000000ULL >> TICK_SHIFT))

enum expiry {
	SOON,  /* within two ticks, whatever the state */
	USUAL, /* as in IPVS */
	NEVER,
};

struct balancer {
	struct bpf_object *object;
	struct service *services;
	struct server *servers;
	uint64_t *slots; /* an array map steps by eight bytes */
	uint8_t *filter;
	struct settings *settings;
	enum expiry expiry;
	uint32_t service_count, server_count, slot_count;
	uint64_t reasons[REASONS]; /* when measuring began */
	uint64_t connections;
};

struct service_given {
	uint8_t family, protocol, scheduler, forwarding;
	uint8_t tunnel, tunnel_family; /* 0: the service's own */
	uint32_t servers;
};

struct balancer *load_balancer(const char *object, uint32_t conns4, uint32_t conns6);
/* Returns its id; its address is vip_of() that. */
uint32_t put_service(struct balancer *b, const struct service_given *given);
uint32_t vip_of(uint32_t service);
uint16_t port_of(uint8_t protocol);
/* An address that is nobody's, in the cell of the filter that `vip` is in. */
uint32_t beside(const struct balancer *b, uint32_t vip);
void set_timeouts(struct balancer *b, enum expiry expiry);
/* Frees what has expired; returns how many entries stay. */
uint64_t sweep_table(struct balancer *b, uint8_t family);

void read_reasons(const struct balancer *b, uint64_t *reasons);
uint64_t read_connections(const struct balancer *b);

#endif

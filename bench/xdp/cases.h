/* SPDX-License-Identifier: Apache-2.0 */
/* cases.h - the kinds of traffic, and who has cases of them. */
#ifndef BENCH_CASES_H
#define BENCH_CASES_H

#include "harness.h"

#define CLIENT 0x0b636363u
#define CLIENT_PORT 31337
#define OTHER_HOST 0x0ac80909u	 /* nobody's service */
#define FIRST_SERVER 0x0a640000u /* 10.100.0.0 and on */
#define OWN_ADDRESS 0xac100001u	 /* source of outer headers and of fullnat */
#define CONNECTIONS 4194304u	 /* entries of every table, floors' and ours */
#define SERVERS 100
#define SERVER_PORT 8080

enum kind {
	TCP_1,
	TCP_64K,
	TCP_64K_FULL, /* the table is full of other flows, and has been turned over */
	TCP_512K,
	ACK_NEW, /* each packet a new flow, which gets an entry, in a full table */
	SYN_NEW,
	ACK_NEW_EMPTY, /* the same in an empty table */
	SYN_NO_ENTRY,  /* each packet a new flow, which gets no entry */
	UDP_1,
	UDP_64K,
	ANSWER_1,
	ANSWER_64K,
	OTHER,
	OTHER_64K,
	TCP6_1,
	TCP6_64K,
	ACK6_NEW,
	UDP6_1,
	ANSWER6_1,
	OTHER6,
	MIXED, /* not measured: the flows of TCP_64K_FULL come among four million others */
	MIXED6,
	KINDS,
};

extern const struct traffic traffics[KINDS];
extern bool needed[KINDS]; /* some case wants it, so floors and baseline are measured too */

/* A packet of a kind of traffic to a service. */
struct packet packet_to(enum kind kind, uint32_t vip, uint16_t port);
/* "-t": is a case asked for? */
bool is_wanted(const struct options *options, enum kind kind, const char *label);

/* Until a table of CONNECTIONS is full, every place has been used again, and flows lie anywhere. */
void turn_over(int program, enum kind kind, struct packet packet);

void kernlb_wants(const struct options *options);
void floor_cases(const struct options *options);
void kernlb_cases(const struct options *options, const char *target, const char *object);

#endif

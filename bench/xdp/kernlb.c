// SPDX-License-Identifier: Apache-2.0
/*
 * kernlb.c - the cases of our own program, each with what proves that it took the path it names:
 * the reason that is counted, connections that begin or do not, entries that are found again.
 */
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "balancer.h"
#include "cases.h"

#define AGAIN 1000 /* flows that are sent again to see that they got an entry */
#define TCP_ACK_FLAG 0x10
#define LOST_AGAIN 5 /* of them, at most: places taken by a later one */

enum path {
	KNOWN,	  /* every packet finds its entry */
	BEGINS,	  /* every packet makes one */
	NO_ENTRY, /* every packet is scheduled, and no entry is made */
	ANSWERED, /* every packet is an answer whose connection is found */
	NOT_OURS,
	NO_SERVICE,
};

enum world {
	SPARSE,
	HALF_MILLION,
	TURNED_OVER,	 /* full of entries that have expired or are about to be */
	FULL_FOR_LONG,	 /* full, nothing expires */
	ALL_ESTABLISHED, /* full, no entry gives way */
	EMPTY,		 /* at the beginning of every measurement */
	WORLDS,
};

struct path_of_case {
	struct balancer *balancer;
	enum path path;
	uint32_t service;
	struct packet forward; /* ANSWERED: what the connections are made by */
	const struct traffic *forward_traffic;
};

static struct balancer *worlds[WORLDS];
static bool prepared[WORLDS][2];
static const char *path_of_object, *name_of_target;

static struct balancer *world(enum world which)
{
	if (!worlds[which])
		worlds[which] = load_balancer(path_of_object, CONNECTIONS, CONNECTIONS);
	return worlds[which];
}

/* ------------------------------------------------------------- hooks */

static void start(struct bench_case *c)
{
	struct path_of_case *p = c->world;

	read_reasons(p->balancer, p->balancer->reasons);
	p->balancer->connections = read_connections(p->balancer);
}

static enum reason reason_of(enum path path)
{
	switch (path) {
	case ANSWERED: return REASON_REPLY;
	case NOT_OURS: return REASON_NOT_OURS;
	case NO_SERVICE: return REASON_NO_SERVICE;
	default: return REASON_FORWARDED;
	}
}

/* What `explain` says of the first packet: the path, and for flows that are known, that they are. */
static const char *confirm(struct bench_case *c)
{
	struct path_of_case *p = c->world;
	struct bpf_object *object = p->balancer->object;
	struct packet packet = c->packet;
	struct explanation why;
	uint8_t frame[FRAME_SIZE];
	uint32_t zero = 0;
	int length;

	if (c->traffic->flow_mask && !c->traffic->answers) { /* the first flow that replay picks */
		packet.source = FIRST_FLOW;
		packet.sport = FIRST_FLOW_PORT;
	}
	length = frame_of(&packet, frame);
	run_once(program_of(object, "explain"), frame, &length);
	if (bpf_map_lookup_elem(map_of(object, "explanations"), &zero, &why))
		return "no explanation";
	if (why.reason != reason_of(p->path))
		return "explained by another reason";
	if (p->path > ANSWERED)
		return NULL;
	if ((p->path == KNOWN || p->path == ANSWERED) && why.chosen_by != CHOSEN_CONNECTION)
		return "explained as a flow that is not known";
	return why.service == p->service ? NULL : "explained as another service's";
}

/* The last flows again: they must be known. */
static bool found_again(struct bench_case *c, struct balancer *b)
{
	const enum expiry expiry = b->expiry;
	uint64_t before = read_connections(b);

	set_timeouts(b, NEVER);
	back(c, AGAIN);
	pump(c, AGAIN);
	set_timeouts(b, expiry);
	return read_connections(b) - before <= LOST_AGAIN;
}

static const char *fault(struct bench_case *c, uint64_t n)
{
	static char text[256];
	struct path_of_case *p = c->world;
	struct balancer *b = p->balancer;
	const bool begins = p->path == BEGINS || p->path == NO_ENTRY;
	uint64_t reasons[REASONS], connections, wanted = begins ? n : 0;
	enum reason reason;

	read_reasons(b, reasons);
	connections = read_connections(b) - b->connections;
	for (reason = 0; reason < REASONS; reason++) {
		uint64_t times = reasons[reason] - b->reasons[reason];
		uint64_t want = reason == reason_of(p->path)			   ? n :
				reason == REASON_TABLE_FULL && p->path == NO_ENTRY ? n :
										     0;

		if (reason == REASON_TABLE_FULL && want && want - times <= n / 1000)
			continue;
		if (times != want && reason != REASON_NOT_OURS) {
			snprintf(text, sizeof(text), "reason %d counted %llu times of %llu", reason,
				 (unsigned long long)times, (unsigned long long)n);
			return text;
		}
	}
	if (connections != wanted) {
		snprintf(text, sizeof(text), "%llu connections began in %llu packets",
			 (unsigned long long)connections, (unsigned long long)n);
		return text;
	}
	if (p->path == BEGINS && !found_again(c, b))
		return "flows that began have no entry";
	return NULL;
}

static void empty(struct bench_case *c)
{
	struct balancer *b = ((struct path_of_case *)c->world)->balancer;
	struct timespec tick = { .tv_nsec = 300000000 };

	set_timeouts(b, SOON);
	nanosleep(&tick, NULL); /* four ticks: all there is has expired */
	if (sweep_table(b, FAMILY_IPV4))
		die("the table is not empty after a sweep");
	set_timeouts(b, USUAL);
}

/* The connections that are answered. */
static void speak_first(struct bench_case *c)
{
	struct path_of_case *p = c->world;

	flood(c->program, p->forward_traffic, p->forward, p->forward_traffic->flow_mask + 1ULL);
}

/* ------------------------------------------------------------- cases */

struct plan {
	enum world world;
	enum kind kind;
	const char *label;
	struct service_given service;
	enum outcome want;
	enum path path;
	double bar;
	uint64_t n;
};

/* clang-format off */
#define MH4 { 4, IPPROTO_TCP, SCHEDULE_MH, FORWARD_TUNNEL, TUNNEL_IPIP, 4, SERVERS }
#define UDP4 { 4, IPPROTO_UDP, SCHEDULE_MH, FORWARD_TUNNEL, TUNNEL_IPIP, 4, SERVERS }
#define TO(family, forwarding, tunnel, outer, servers) \
	{ family, IPPROTO_TCP, SCHEDULE_MH, forwarding, tunnel, outer, servers }
#define BY(scheduler, servers) \
	{ 4, IPPROTO_TCP, scheduler, FORWARD_TUNNEL, TUNNEL_IPIP, 4, servers }
#define SCHEDULED(name, scheduler)                                                               \
	{ TURNED_OVER, SYN_NEW, name "-3", BY(scheduler, 3), SENT_IPV4, BEGINS, .n = 500000 },   \
	{ TURNED_OVER, SYN_NEW, name "-100", BY(scheduler, 100), SENT_IPV4, BEGINS,              \
	  .n = 500000 },                                                                         \
	{ TURNED_OVER, SYN_NEW, name "-4096", BY(scheduler, 4096), SENT_IPV4, BEGINS, .n = 20000 }

static const struct plan plans[] = {
	{ SPARSE, TCP_1, "tunnel", MH4, SENT_IPV4, KNOWN, 1.3 },
	{ SPARSE, TCP_64K, "tunnel", MH4, SENT_IPV4, KNOWN, 1.1 },
	{ HALF_MILLION, TCP_512K, "tunnel", MH4, SENT_IPV4, KNOWN, 1.1 },
	{ FULL_FOR_LONG, TCP_64K_FULL, "tunnel", MH4, SENT_IPV4, KNOWN, 0.8 },
	{ TURNED_OVER, ACK_NEW, "tunnel", MH4, SENT_IPV4, BEGINS, 1.0 },
	{ TURNED_OVER, SYN_NEW, "tunnel", MH4, SENT_IPV4, BEGINS, 1.0 },
	{ EMPTY, ACK_NEW_EMPTY, "tunnel", MH4, SENT_IPV4, BEGINS },
	{ ALL_ESTABLISHED, SYN_NO_ENTRY, "tunnel", MH4, SENT_IPV4, NO_ENTRY },
	{ SPARSE, UDP_1, "tunnel", UDP4, SENT_IPV4, KNOWN, 1.3 },
	{ SPARSE, UDP_64K, "tunnel", UDP4, SENT_IPV4, KNOWN },
	{ SPARSE, OTHER, "address", MH4, PASSED, NOT_OURS, 1.5 },
	{ SPARSE, OTHER_64K, "address", MH4, PASSED, NOT_OURS },
	{ SPARSE, OTHER, "port", MH4, PASSED, NO_SERVICE },
	{ SPARSE, OTHER, "filter-collision", MH4, PASSED, NO_SERVICE },
	{ SPARSE, TCP_1, "gue", TO(4, FORWARD_TUNNEL, TUNNEL_GUE, 4, SERVERS), SENT_GUE, KNOWN },
	{ SPARSE, TCP_1, "4in6", TO(4, FORWARD_TUNNEL, TUNNEL_IPIP, 6, SERVERS), SENT_IPV6, KNOWN },
	{ SPARSE, TCP_1, "dsr", TO(4, FORWARD_DSR, 0, 0, SERVERS), SENT_L2, KNOWN },
	{ SPARSE, TCP_1, "nat", TO(4, FORWARD_NAT, 0, 0, SERVERS), SENT_REWRITTEN, KNOWN },
	{ SPARSE, TCP_1, "fullnat", TO(4, FORWARD_FULLNAT, 0, 0, SERVERS), SENT_REWRITTEN, KNOWN },
	{ SPARSE, TCP_64K, "dsr", TO(4, FORWARD_DSR, 0, 0, SERVERS), SENT_L2, KNOWN },
	{ SPARSE, TCP_64K, "nat", TO(4, FORWARD_NAT, 0, 0, SERVERS), SENT_REWRITTEN, KNOWN },
	{ SPARSE, TCP_64K, "fullnat", TO(4, FORWARD_FULLNAT, 0, 0, SERVERS), SENT_REWRITTEN,
	  KNOWN },
	{ SPARSE, ANSWER_1, "nat", TO(4, FORWARD_NAT, 0, 0, 1), SENT_REWRITTEN, ANSWERED },
	{ SPARSE, ANSWER_1, "fullnat", TO(4, FORWARD_FULLNAT, 0, 0, 1), SENT_REWRITTEN, ANSWERED },
	{ SPARSE, ANSWER_64K, "nat", TO(4, FORWARD_NAT, 0, 0, 1), SENT_REWRITTEN, ANSWERED },
	{ SPARSE, TCP6_1, "6in6", TO(6, FORWARD_TUNNEL, TUNNEL_IPIP, 6, SERVERS), SENT_IPV6,
	  KNOWN },
	{ SPARSE, TCP6_1, "6in4", TO(6, FORWARD_TUNNEL, TUNNEL_IPIP, 4, SERVERS), SENT_IPV4,
	  KNOWN },
	{ SPARSE, TCP6_1, "dsr", TO(6, FORWARD_DSR, 0, 0, SERVERS), SENT_L2, KNOWN },
	{ SPARSE, TCP6_1, "nat", TO(6, FORWARD_NAT, 0, 0, SERVERS), SENT_REWRITTEN, KNOWN },
	{ SPARSE, TCP6_1, "fullnat", TO(6, FORWARD_FULLNAT, 0, 0, SERVERS), SENT_REWRITTEN, KNOWN },
	{ SPARSE, TCP6_64K, "6in6", TO(6, FORWARD_TUNNEL, TUNNEL_IPIP, 6, SERVERS), SENT_IPV6,
	  KNOWN },
	{ SPARSE, ANSWER6_1, "nat", TO(6, FORWARD_NAT, 0, 0, 1), SENT_REWRITTEN, ANSWERED },
	{ SPARSE, ANSWER6_1, "fullnat", TO(6, FORWARD_FULLNAT, 0, 0, 1), SENT_REWRITTEN, ANSWERED },
	{ TURNED_OVER, ACK6_NEW, "6in6", TO(6, FORWARD_TUNNEL, TUNNEL_IPIP, 6, SERVERS), SENT_IPV6,
	  BEGINS },
	{ SPARSE, UDP6_1, "6in6",
	  { 6, IPPROTO_UDP, SCHEDULE_MH, FORWARD_TUNNEL, TUNNEL_IPIP, 6, SERVERS }, SENT_IPV6,
	  KNOWN },
	{ SPARSE, OTHER6, "address", MH4, PASSED, NOT_OURS },
	SCHEDULED("rr", SCHEDULE_RR),
	SCHEDULED("wrr", SCHEDULE_WRR),
	SCHEDULED("lc", SCHEDULE_LC),
	SCHEDULED("wlc", SCHEDULE_WLC),
	SCHEDULED("sh", SCHEDULE_SH),
	SCHEDULED("mh", SCHEDULE_MH),
};
/* clang-format on */

#define PLANS (sizeof(plans) / sizeof(*plans))

/* A packet from the server: the answer to one that has just been sent to it. */
static struct packet answer_to(int program, const struct packet *packet)
{
	uint8_t frame[FRAME_SIZE];
	int length = frame_of(packet, frame);
	struct packet out, answer = *packet;

	if (run_once(program, frame, &length) != XDP_TX)
		die("nothing came out to be answered");
	out = packet_in(frame);
	answer.source = out.destination;
	answer.sport = out.dport;
	answer.destination = out.source;
	answer.dport = out.sport;
	return answer;
}

static enum kind answered_by(enum kind kind)
{
	return kind == ANSWER_1 ? TCP_1 : kind == ANSWER_64K ? TCP_64K : TCP6_1;
}

/* What the name of a world says, when it is used for the first time. */
static void prepare(struct balancer *b, enum world which, enum kind kind, struct packet packet)
{
	struct timespec four_ticks = { .tv_nsec = 300000000 };
	int program = program_of(b->object, "kernlb");

	switch (which) {
	case TURNED_OVER:
		set_timeouts(b, SOON);
		turn_over(program, kind, packet);
		break;
	case FULL_FOR_LONG:
		set_timeouts(b, SOON);
		turn_over(program, kind, packet);
		nanosleep(&four_ticks, NULL);
		flood(program, &traffics[kind], packet, traffics[kind].warm);
		set_timeouts(b, NEVER);
		break;
	case ALL_ESTABLISHED:
		set_timeouts(b, NEVER);
		packet.tcp_flags = TCP_ACK_FLAG;
		flood(program, &traffics[ACK_NEW], packet, 3ULL * CONNECTIONS);
		break;
	default: break;
	}
}

static void add_plan(const struct plan *plan)
{
	struct balancer *b = world(plan->world);
	uint32_t service = put_service(b, &plan->service);
	struct path_of_case *p = calloc(1, sizeof(*p));
	const struct traffic *traffic = &traffics[plan->kind];
	struct bench_case c = {
		.target = name_of_target,
		.label = plan->label,
		.floor = "floor-iii",
		.traffic = traffic,
		.packet = packet_to(plan->kind, vip_of(service), port_of(traffic->protocol)),
		.want = plan->want,
		.bar = plan->bar,
		.n = plan->n,
		.program = program_of(b->object, "kernlb"),
		.start = start,
		.fault = fault,
		.confirm = confirm,
		.world = p,
	};

	if (!p)
		die("no memory");
	p->balancer = b;
	p->path = plan->path;
	p->service = service;
	if (!prepared[plan->world][traffic->family == 6])
		prepare(b, plan->world, plan->kind, c.packet);
	prepared[plan->world][traffic->family == 6] = true;
	if (plan->world == EMPTY)
		c.before = empty;
	if (plan->path == NOT_OURS)
		c.packet.destination = OTHER_HOST;
	if (plan->path == NO_SERVICE && !strcmp(plan->label, "port"))
		c.packet.dport = 81;
	else if (plan->path == NO_SERVICE)
		c.packet.destination = beside(b, vip_of(service));
	if (plan->path == ANSWERED) {
		p->forward = c.packet;
		p->forward_traffic = &traffics[answered_by(plan->kind)];
		c.packet = answer_to(c.program, &p->forward);
		c.before = speak_first;
	}
	add_case(c);
}

void kernlb_wants(const struct options *options)
{
	unsigned int i;

	for (i = 0; i < PLANS; i++)
		if (is_wanted(options, plans[i].kind, plans[i].label))
			needed[plans[i].kind] = true;
	if (needed[TCP_64K_FULL]) /* their new flows turn over the floors' table */
		needed[ACK_NEW] = needed[SYN_NEW] = true;
}

void kernlb_cases(const struct options *options, const char *target, const char *object)
{
	unsigned int i;

	name_of_target = target;
	path_of_object = object;
	memset(worlds, 0, sizeof(worlds));
	memset(prepared, 0, sizeof(prepared));
	for (i = 0; i < PLANS; i++)
		if (is_wanted(options, plans[i].kind, plans[i].label))
			add_plan(&plans[i]);
}

// SPDX-License-Identifier: Apache-2.0
#include <fnmatch.h>
#include <netinet/in.h>
#include <stdio.h>

#include "cases.h"

#define ACK 0x10
#define SYN 0x02
#define TCP4 .family = 4, .protocol = IPPROTO_TCP, .tcp_flags = ACK
#define TCP6 .family = 6, .protocol = IPPROTO_TCP, .tcp_flags = ACK
#define FEW .warm = 20000, .n = 2000000
#define FLOWS_64K .flow_mask = 0xffff, .warm = 131072, .n = 2000000
#define FRESH .flow_mask = NEW_FLOWS, .warm = 20000, .n = 1000000

const struct traffic traffics[KINDS] = {
	[TCP_1] = { "tcp-1flow", TCP4, FEW },
	[TCP_64K] = { "tcp-64k", TCP4, FLOWS_64K },
	[TCP_64K_FULL] = { "tcp-64k-full", TCP4, FLOWS_64K },
	[TCP_512K] = { "tcp-512k", TCP4, .flow_mask = 0x7ffff, .warm = 1048576, .n = 2097152 },
	[ACK_NEW] = { "ack-new", TCP4, FRESH },
	[SYN_NEW] = { "syn-new", .family = 4, .protocol = IPPROTO_TCP, .tcp_flags = SYN, FRESH },
	[ACK_NEW_EMPTY] = { "ack-new-empty", TCP4, FRESH },
	[SYN_NO_ENTRY] = { "syn-no-entry", .family = 4, .protocol = IPPROTO_TCP, .tcp_flags = SYN,
			   FRESH },
	[UDP_1] = { "udp-1flow", .family = 4, .protocol = IPPROTO_UDP, FEW },
	[UDP_64K] = { "udp-64k", .family = 4, .protocol = IPPROTO_UDP, FLOWS_64K },
	[ANSWER_1] = { "answer-1flow", TCP4, .answers = true, FEW },
	[ANSWER_64K] = { "answer-64k", TCP4, .answers = true, FLOWS_64K },
	[OTHER] = { "not-ours", TCP4, FEW },
	[OTHER_64K] = { "not-ours-64k", TCP4, .flow_mask = 0xffff, FEW },
	[TCP6_1] = { "tcp6-1flow", TCP6, FEW },
	[TCP6_64K] = { "tcp6-64k", TCP6, FLOWS_64K },
	[ACK6_NEW] = { "ack6-new", TCP6, FRESH },
	[UDP6_1] = { "udp6-1flow", .family = 6, .protocol = IPPROTO_UDP, FEW },
	[ANSWER6_1] = { "answer6-1flow", TCP6, .answers = true, FEW },
	[OTHER6] = { "not-ours6", TCP6, FEW },
	[MIXED] = { "mixed", TCP4, .flow_mask = CONNECTIONS - 1 },
	[MIXED6] = { "mixed6", TCP6, .flow_mask = CONNECTIONS - 1 },
};

bool needed[KINDS];

struct packet packet_to(enum kind kind, uint32_t vip, uint16_t port)
{
	const struct traffic *traffic = &traffics[kind];
	struct packet packet = {
		.family = traffic->family,
		.protocol = traffic->protocol,
		.tcp_flags = traffic->tcp_flags,
		.source = CLIENT,
		.sport = CLIENT_PORT,
		.destination = vip,
		.dport = port,
	};

	return packet;
}

bool is_wanted(const struct options *options, enum kind kind, const char *label)
{
	char name[256];

	if (kind == MIXED || kind == MIXED6)
		return false;
	if (!options->only)
		return true;
	snprintf(name, sizeof(name), "%s/%s", traffics[kind].name, label);
	return !fnmatch(options->only, name, 0);
}

void turn_over(int program, enum kind kind, struct packet packet)
{
	const bool six = traffics[kind].family == 6;

	flood(program, &traffics[six ? ACK6_NEW : ACK_NEW], packet, CONNECTIONS + CONNECTIONS / 4);
	flood(program, &traffics[six ? MIXED6 : MIXED], packet, CONNECTIONS);
}

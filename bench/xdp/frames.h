/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frames.h - the frames that go in, and whether what comes out is what a balancer must make of
 * them.
 *
 * Addresses are 32-bit numbers in host order; in IPv6 they stand behind the prefix fd00::/96.
 */
#ifndef BENCH_FRAMES_H
#define BENCH_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#define FRAME_SIZE 2048
#define GUE_PORT 6080

struct packet {
	uint8_t family, protocol, tcp_flags;
	uint32_t source, destination;
	uint16_t sport, dport;
};

/* What must come out. */
enum outcome {
	SENT,		/* XDP_TX, nothing more asked */
	PASSED,		/* XDP_PASS, not a byte changed */
	SENT_L2,	/* other Ethernet addresses */
	SENT_IPV4,	/* an outer IPv4 header */
	SENT_IPV6,	/* an outer IPv6 header */
	SENT_GUE,	/* outer IPv4, UDP and GUE */
	SENT_REWRITTEN, /* other addresses or ports inside the same headers, checksums right */
};

void address_bytes(uint8_t family, uint32_t address, void *bytes);
/* Returns its length; checksums are right. */
int frame_of(const struct packet *packet, uint8_t *frame);
/* NULL where it is as it must be; else what is wrong. */
const char *frame_fault(enum outcome want, const struct packet *sent, const uint8_t *out,
			int length, int returned);
/* As sent[] came out of nat: the packet in a frame. */
struct packet packet_in(const uint8_t *frame);
int length_wanted(enum outcome want, const struct packet *sent);
int return_wanted(enum outcome want);

#endif

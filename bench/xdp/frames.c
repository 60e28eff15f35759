// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <string.h>

#include "frames.h"

#define ETHERNET 14
#define PAYLOAD 10 /* an IPv4 TCP frame is 64 bytes long */

static uint32_t sum_of(const void *data, int length, uint32_t sum)
{
	const uint8_t *p = data;

	for (; length > 1; length -= 2, p += 2)
		sum += p[0] << 8 | p[1];
	return length ? sum + (p[0] << 8) : sum;
}

static uint16_t folded(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static void put16(uint8_t *p, uint16_t value)
{
	p[0] = value >> 8;
	p[1] = value;
}

static uint16_t get16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static int ip_length(uint8_t family)
{
	return family == 4 ? 20 : 40;
}

void address_bytes(uint8_t family, uint32_t address, void *bytes)
{
	uint32_t word = htonl(address);

	memset(bytes, 0, 16);
	if (family == 4) {
		memcpy(bytes, &word, 4);
		return;
	}
	*(uint8_t *)bytes = 0xfd;
	memcpy((uint8_t *)bytes + 12, &word, 4);
}

/* Sum over pseudo-header and what follows; all ones when the checksum inside is right. */
static uint16_t l4_sum(const uint8_t *ip, uint8_t family, uint8_t protocol, int length)
{
	uint32_t sum = protocol + length;

	sum = family == 4 ? sum_of(ip + 12, 8, sum) : sum_of(ip + 8, 32, sum);
	return folded(sum_of(ip + ip_length(family), length, sum));
}

int frame_of(const struct packet *packet, uint8_t *frame)
{
	const bool tcp = packet->protocol == IPPROTO_TCP;
	int l4_length = 20 + PAYLOAD, header = ip_length(packet->family);
	uint8_t *ip = frame + ETHERNET, *l4 = ip + header, address[16];

	memset(frame, 0, FRAME_SIZE);
	memcpy(frame, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02", 12);
	put16(frame + 12, packet->family == 4 ? 0x0800 : 0x86dd);
	if (packet->family == 4) {
		ip[0] = 0x45;
		put16(ip + 2, header + l4_length);
		put16(ip + 4, 0x1234);
		ip[6] = 0x40; /* do not fragment */
		ip[8] = 64;
		ip[9] = packet->protocol;
		address_bytes(4, packet->source, address);
		memcpy(ip + 12, address, 4);
		address_bytes(4, packet->destination, address);
		memcpy(ip + 16, address, 4);
		put16(ip + 10, ~folded(sum_of(ip, 20, 0)));
	} else {
		ip[0] = 0x60;
		put16(ip + 4, l4_length);
		ip[6] = packet->protocol;
		ip[7] = 64;
		address_bytes(6, packet->source, ip + 8);
		address_bytes(6, packet->destination, ip + 24);
	}
	put16(l4, packet->sport);
	put16(l4 + 2, packet->dport);
	if (tcp) {
		l4[7] = l4[11] = 1;
		l4[12] = 5 << 4;
		l4[13] = packet->tcp_flags;
		l4[14] = 0x20;
	} else {
		put16(l4 + 4, l4_length);
	}
	put16(l4 + (tcp ? 16 : 6), ~l4_sum(ip, packet->family, packet->protocol, l4_length));
	return ETHERNET + header + l4_length;
}

struct packet packet_in(const uint8_t *frame)
{
	const uint8_t *ip = frame + ETHERNET, *l4;
	struct packet packet = { .family = ip[0] >> 4 };
	uint32_t word;

	packet.protocol = packet.family == 4 ? ip[9] : ip[6];
	memcpy(&word, packet.family == 4 ? ip + 12 : ip + 20, 4);
	packet.source = ntohl(word);
	memcpy(&word, packet.family == 4 ? ip + 16 : ip + 36, 4);
	packet.destination = ntohl(word);
	l4 = ip + ip_length(packet.family);
	packet.sport = get16(l4);
	packet.dport = get16(l4 + 2);
	packet.tcp_flags = l4[13];
	return packet;
}

int length_wanted(enum outcome want, const struct packet *sent)
{
	static const int more[] = {
		[SENT_IPV4] = 20, [SENT_IPV6] = 40, [SENT_GUE] = 32, [SENT_REWRITTEN] = 0
	};

	return ETHERNET + ip_length(sent->family) + 20 + PAYLOAD + more[want];
}

int return_wanted(enum outcome want)
{
	return want == PASSED ? XDP_PASS : XDP_TX;
}

/* A balancer is a router: TTL and its checksum may differ, nothing else. */
static bool same_packet(const uint8_t *in, const uint8_t *out, int length, uint8_t family)
{
	uint8_t a[FRAME_SIZE], b[FRAME_SIZE];

	memcpy(a, in, length);
	memcpy(b, out, length);
	if (family == 4) {
		if (folded(sum_of(b, 20, 0)) != 0xffff)
			return false;
		a[8] = b[8] = a[10] = b[10] = a[11] = b[11] = 0;
	} else {
		a[7] = b[7] = 0;
	}
	return !memcmp(a, b, length);
}

static const char *outer_ipv4_fault(const uint8_t *ip, int length, uint8_t protocol)
{
	if (ip[0] != 0x45 || get16(ip + 2) != length)
		return "outer header: version or length";
	if (ip[9] != protocol)
		return "outer header: protocol";
	return folded(sum_of(ip, 20, 0)) == 0xffff ? NULL : "outer header: checksum";
}

static const char *rewritten_fault(const uint8_t *in, const uint8_t *out, const struct packet *sent)
{
	int length = length_wanted(SENT_REWRITTEN, sent) - ETHERNET,
	    header = ip_length(sent->family);
	struct packet a = packet_in(in), b = packet_in(out);

	out += ETHERNET;
	if (b.family != a.family || b.protocol != a.protocol)
		return "another family or protocol";
	if (a.source == b.source && a.destination == b.destination)
		return "no address changed";
	if (sent->family == 4 && folded(sum_of(out, 20, 0)) != 0xffff)
		return "IP checksum";
	if (l4_sum(out, sent->family, sent->protocol, length - header) != 0xffff)
		return "TCP or UDP checksum";
	return memcmp(in + ETHERNET + header + 20, out + header + 20, PAYLOAD) ? "payload" : NULL;
}

const char *frame_fault(enum outcome want, const struct packet *sent, const uint8_t *out,
			int length, int returned)
{
	uint8_t in[FRAME_SIZE];
	int in_length = frame_of(sent, in), inner = in_length - ETHERNET;
	const uint8_t *ip = out + ETHERNET;
	const char *fault = NULL;

	if (returned != return_wanted(want))
		return "return code";
	if (length != length_wanted(want, sent))
		return "length";
	if (want == PASSED)
		return memcmp(in, out, length) ? "changed though not ours" : NULL;
	if (want == SENT)
		return NULL;
	if (!memcmp(in, out, 6))
		return "Ethernet destination unchanged";

	switch (want) {
	case SENT_IPV4:
		fault = outer_ipv4_fault(ip, inner + 20, sent->family == 4 ? 4 : 41);
		ip += 20;
		break;
	case SENT_GUE:
		fault = outer_ipv4_fault(ip, inner + 32, IPPROTO_UDP);
		if (get16(ip + 22) != GUE_PORT || get16(ip + 24) != inner + 12)
			fault = "GUE: port or length";
		ip += 32;
		break;
	case SENT_IPV6:
		if (ip[0] >> 4 != 6 || get16(ip + 4) != inner ||
		    ip[6] != (sent->family == 4 ? 4 : 41))
			fault = "outer header";
		ip += 40;
		break;
	case SENT_REWRITTEN: return rewritten_fault(in, out, sent);
	default: break;
	}
	if (!fault && !same_packet(in + ETHERNET, ip, inner, sent->family))
		fault = "the packet inside is not the one that was sent";
	return fault;
}
